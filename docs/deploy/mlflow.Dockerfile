# MLflow's server with accounts; the admin's password comes from the environment at the first start.
FROM python:3.11-slim
RUN python -m pip install --no-cache-dir "mlflow[auth]==3.17.*" psycopg2-binary boto3
COPY mlflow_server.sh /usr/local/bin/mlflow_server.sh
RUN useradd --create-home mlflow
USER mlflow
WORKDIR /home/mlflow
EXPOSE 5000
CMD ["sh", "/usr/local/bin/mlflow_server.sh"]
