#!/bin/sh
# Start an S3 server on a bare machine: SeaweedFS, as compose.yaml does, by its one binary.
#
#   S3_DATA=/data/s3 S3_ACCESS_KEY=... S3_SECRET_KEY=... sh docs/deploy/s3_server.sh
#   export AWS_ENDPOINT_URL=http://127.0.0.1:8333 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
#   aws s3 mb s3://mlflow       # the bucket of mlflow_server.sh; one for --storage likewise
#
# All of its ports listen on 127.0.0.1, because only the S3 one asks for keys: other machines come
# through SSH, a VPN or a proxy with TLS. Any server with conditional writes (If-None-Match,
# If-Match) will do instead: two writers of one run are told apart by them.
set -eu
umask 077
data=${S3_DATA:?a folder for the objects}
: "${S3_ACCESS_KEY:?}" "${S3_SECRET_KEY:?at least 12 characters}"
case $S3_ACCESS_KEY$S3_SECRET_KEY in
*[!A-Za-z0-9/+=_.-]*) echo "keys of S3 have letters, digits and / + = _ . - alone" >&2; exit 2 ;;
esac
if [ ${#S3_SECRET_KEY} -lt 12 ]; then
    echo "S3_SECRET_KEY is shorter than 12 characters" >&2
    exit 2
fi
if ! command -v weed >/dev/null; then
    echo "weed is not on the PATH: unpack it from a release of SeaweedFS (compose.yaml names the" \
        "version) into a folder of the PATH, or start compose.yaml where there is docker" >&2
    exit 2
fi
mkdir -p "$data"
cat > "$data/s3.json" <<END
{"identities": [{"name": "unite", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$S3_ACCESS_KEY", "secretKey": "$S3_SECRET_KEY"}]}]}
END
exec weed server -dir="$data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3 -s3.port="${S3_PORT:-8333}" \
    -s3.config="$data/s3.json"
