#!/bin/sh
# Start MLflow's server with basic authentication on PostgreSQL. The same script serves a bare machine:
#
#   POSTGRES_HOST=127.0.0.1 POSTGRES_PASSWORD=... MLFLOW_ADMIN_PASSWORD=... sh docs/deploy/mlflow_server.sh
#
# MLflow answers to localhost and private addresses alone. Other names by which it is called go into
# MLFLOW_SERVER_ALLOWED_HOSTS, such as 'mlflow:5000,mlflow.example.org'; else they get a 403.
# Passwords reach files only in a folder that this user alone can read.
set -eu
umask 077
host=${POSTGRES_HOST:-postgres}
database=${POSTGRES_DATABASE:-mlflow}
: "${POSTGRES_PASSWORD:?}" "${MLFLOW_ADMIN_PASSWORD:?at least 12 characters}"
folder=$(mktemp -d)
uri="postgresql+psycopg2://mlflow:${POSTGRES_PASSWORD}@${host}:5432/${database}"
cat > "$folder/auth.ini" <<END
[mlflow]
default_permission = READ
database_uri = ${uri}
admin_username = admin
admin_password = ${MLFLOW_ADMIN_PASSWORD}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
export MLFLOW_AUTH_CONFIG_PATH="$folder/auth.ini"
export MLFLOW_BACKEND_STORE_URI="$uri"
# More connections for each process than its 40 threads: a log-batch holds one and asks for another, and
# with the default of 15 many at once wait for each other. PostgreSQL needs max_connections = 400 for it.
export MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=41 MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW=1
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # nothing here gives its job runners work
exec mlflow server --app-name basic-auth --host "${MLFLOW_HOST:-0.0.0.0}" --port "${MLFLOW_PORT:-5000}" \
    --artifacts-destination "${MLFLOW_ARTIFACTS:-s3://mlflow}" --serve-artifacts \
    --uvicorn-opts "--timeout-worker-healthcheck 120"  # a busy process is not taken for a dead one
