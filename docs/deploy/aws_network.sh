#!/bin/sh
# A network group for cluster.yaml: SSH from one place alone, everything between the nodes.
#
#   docs/deploy/aws_network.sh 203.0.113.7/32 [VPC]     prints the sg-... for SecurityGroupIds
#
# Ray's own group opens port 22 to 0.0.0.0/0, and its provider.security_group.IpPermissions only
# adds to that. Dashboard and job API need no port: `ray dashboard` tunnels them through SSH.
set -eu
cidr=${1:?give the addresses that may log in, such as 203.0.113.7/32}
case $cidr in
*/0) echo "$cidr is the whole world: name your own addresses" >&2; exit 2 ;;
*/*) ;;
*) echo "$cidr is no CIDR: a single address is ADDRESS/32" >&2; exit 2 ;;
esac
vpc=${2:-$(aws ec2 describe-vpcs --filters Name=is-default,Values=true \
    --query 'Vpcs[0].VpcId' --output text)}
group=$(aws ec2 create-security-group --group-name unite --description "unite on Ray" \
    --vpc-id "$vpc" --query GroupId --output text)
aws ec2 authorize-security-group-ingress --group-id "$group" \
    --protocol tcp --port 22 --cidr "$cidr" >/dev/null
aws ec2 authorize-security-group-ingress --group-id "$group" \
    --protocol all --source-group "$group" >/dev/null
echo "$group"
