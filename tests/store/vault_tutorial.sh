#!/bin/sh
# What Vault's own getting-started pages do, with a program called `vault` on PATH.
# Arguments: a free port. Prints "tutorial done" when every step gave what the pages show.
set -eu
port=$1
export VAULT_ADDR="http://127.0.0.1:$port"
fail() { echo "FAILED: $1" >&2; exit 1; }
field() { python3 -c 'import json, sys; v = json.load(sys.stdin)
for name in sys.argv[1].split("."): v = v[int(name)] if name.isdigit() else v[name]
print(v)' "$1"; }

vault version | grep -Eq '^Vault v[0-9]+\.[0-9]+\.[0-9]+' || fail "version"
cat > config.hcl <<EOF
ui            = true
disable_mlock = true
storage "raft" {
  path    = "./vault/data"
  node_id = "node1"
}
listener "tcp" {
  address     = "127.0.0.1:$port"
  tls_disable = "true"
  disable_unauthed_generate_root_endpoints = false
}
api_addr     = "http://127.0.0.1:$port"
cluster_addr = "https://127.0.0.1:$((port + 1))"
EOF
mkdir -p ./vault/data
vault server -config=config.hcl > server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT

tries=0
until curl -s -o /dev/null "$VAULT_ADDR/v1/sys/health"; do
  tries=$((tries + 1)); [ $tries -lt 200 ] || fail "the server does not answer"
  sleep 0.1
done

# Not initialised: status exits with 2, health says 501.
code=0; vault status > /dev/null || code=$?
[ $code = 2 ] || fail "status of an empty server exits with $code"
[ "$(curl -s -o /dev/null -w '%{http_code}' "$VAULT_ADDR/v1/sys/health")" = 501 ] || fail "501"

curl -s --request POST --data '{"secret_shares": 2, "secret_threshold": 2}' \
  "$VAULT_ADDR/v1/sys/init" > init.json
root=$(field root_token < init.json)
[ ${#root} = 28 ] || fail "the root token has ${#root} characters"

vault operator unseal -format=json "$(field keys_base64.0 < init.json)" > unseal.json
[ "$(field progress < unseal.json)" = 1 ] || fail "progress"
[ "$(field sealed < unseal.json)" = True ] || fail "still sealed"
curl -s -o /dev/null "$VAULT_ADDR/v1/sys/health"
curl -s --request POST --data "{\"key\": \"$(field keys.1 < init.json)\"}" \
  "$VAULT_ADDR/v1/sys/unseal" > unseal.json
[ "$(field sealed < unseal.json)" = False ] || fail "unsealed by the last key"
vault status > status.txt || fail "status of an open server exits with $?"
grep -Eq '^Sealed +false' status.txt || fail "the table of status"

export VAULT_TOKEN=$root
for request in 1 2 3 4 5 6 7 8; do
  curl -s -H "X-Vault-Token: $root" "$VAULT_ADDR/v1/auth/token/lookup-self" > self.json
  [ "$(field data.policies.0 < self.json)" = root ] || fail "lookup-self, request $request"
done
curl -s -H "X-Vault-Token: $root" --request POST --data '{"type": "kv", "options": {"version": "2"}}' \
  "$VAULT_ADDR/v1/sys/mounts/secret"
curl -s -H "X-Vault-Token: $root" --request POST --data '{"data": {"password": "my-long-password"}}' \
  "$VAULT_ADDR/v1/secret/data/creds" > /dev/null
curl -s -H "X-Vault-Token: $root" "$VAULT_ADDR/v1/secret/data/creds" > creds.json
[ "$(field data.data.password < creds.json)" = my-long-password ] || fail "the secret"

# A root token for who has the keys and no token.
vault operator generate-root -init -format=json > attempt.json
nonce=$(field nonce < attempt.json); otp=$(field otp < attempt.json)
vault operator generate-root -nonce="$nonce" "$(field keys_base64.0 < init.json)" > /dev/null
field keys_base64.1 < init.json | vault operator generate-root -format=json -nonce="$nonce" - > new.json
new=$(vault operator generate-root -decode="$(field encoded_token < new.json)" -otp="$otp")
curl -s -H "X-Vault-Token: $new" "$VAULT_ADDR/v1/auth/token/lookup-self" > self.json
[ "$(field data.policies.0 < self.json)" = root ] || fail "the generated root token"

vault operator seal > /dev/null
code=0; vault status > /dev/null || code=$?
[ $code = 2 ] || fail "status of a sealed server exits with $code"
[ "$(curl -s -H "X-Vault-Token: $root" "$VAULT_ADDR/v1/secret/data/creds")" = '{"errors":["Vault is sealed"]}' ] \
  || fail "sealed"

# Ended and started again, it is sealed and has kept everything.
kill -9 $server; wait $server 2>/dev/null || true
vault server -config=config.hcl >> server.log 2>&1 &
server=$!
tries=0
until [ "$(curl -s -o /dev/null -w '%{http_code}' "$VAULT_ADDR/v1/sys/health")" = 503 ]; do
  tries=$((tries + 1)); [ $tries -lt 200 ] || fail "sealed after a restart"
  sleep 0.1
done
vault operator unseal "$(field keys_base64.0 < init.json)" > /dev/null
vault operator unseal "$(field keys_base64.1 < init.json)" > /dev/null
curl -s -H "X-Vault-Token: $root" "$VAULT_ADDR/v1/secret/data/creds" > creds.json
[ "$(field data.data.password < creds.json)" = my-long-password ] || fail "the secret after a restart"
kill $server; wait $server || fail "the server ends with $?"
code=0; vault status > /dev/null 2>&1 || code=$?
[ $code = 1 ] || fail "status without a server exits with $code"
trap - EXIT
echo "tutorial done"
