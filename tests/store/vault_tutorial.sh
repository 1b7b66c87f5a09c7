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
unsafe_allow_api_audit_creation = true
cluster_addr = "https://127.0.0.1:$((port + 1))"
EOF
mkdir -p ./vault/data
vault server -config=config.hcl > server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT

tries=0
until curl -s -o /dev/null "$VAULT_ADDR/v1/sys/health"; do
  tries=$((tries + 1)); [ $tries -lt 1200 ] || fail "the server does not answer"
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

# The command line's own tutorials: versions, policies, AppRole, wrapping, transit, tokens, identity.
vault kv put -mount=secret hello foo=world excited=yes > /dev/null
vault kv put -mount=secret hello foo=again > /dev/null
[ "$(vault kv get -mount=secret -field=foo hello)" = again ] || fail "kv get -field"
[ "$(vault kv get -mount=secret -version=1 -field=excited hello)" = yes ] || fail "kv get -version"
[ "$(vault kv get -mount=secret -format=json hello | field data.metadata.version)" = 2 ] || fail "kv get -format"
vault kv patch -mount=secret hello excited=no > /dev/null
[ "$(vault kv get -mount=secret -field=foo hello)" = again ] || fail "kv patch"
vault kv delete -mount=secret hello > /dev/null
vault kv undelete -mount=secret -versions=3 hello > /dev/null
vault kv list -mount=secret | grep -q hello || fail "kv list"
printf 'path "secret/data/hello" { capabilities = ["read"] }\n' | vault policy write reader - > /dev/null
vault policy read reader | grep -q 'secret/data/hello' || fail "policy read"
vault auth enable approle > /dev/null
vault write auth/approle/role/ci token_policies=reader token_ttl=10m > /dev/null
role=$(vault read -field=role_id auth/approle/role/ci/role-id)
wrapped=$(vault write -wrap-ttl=60s -f -field=wrapping_token auth/approle/role/ci/secret-id)
secret=$(VAULT_TOKEN=$wrapped vault unwrap -field=secret_id)
token=$(vault write -field=token auth/approle/login role_id="$role" secret_id="$secret")
[ "$(VAULT_TOKEN=$token vault kv get -mount=secret -field=foo hello)" = again ] || fail "AppRole reads"
code=0; VAULT_TOKEN=$token vault kv put -mount=secret hello foo=no > /dev/null 2>&1 || code=$?
[ $code = 2 ] || fail "a refused write exits with $code"
vault secrets enable transit > /dev/null
vault write -f transit/keys/orders > /dev/null
sealed=$(vault write -field=ciphertext transit/encrypt/orders plaintext="$(printf 4111 | base64)")
[ "$(vault write -field=plaintext transit/decrypt/orders ciphertext="$sealed" | base64 -d)" = 4111 ] || fail "transit"
vault write auth/token/roles/short allowed_policies=reader token_period=1h > /dev/null
periodic=$(vault token create -role=short -policy=reader -field=token)
[ "$(vault token lookup -format=json "$periodic" | field data.period)" = 3600 ] || fail "token roles"
vault token capabilities "$periodic" secret/data/hello | grep -q read || fail "token capabilities"
vault token revoke "$periodic" > /dev/null
vault auth enable userpass > /dev/null
vault write auth/userpass/users/ada password=pw token_policies=reader > /dev/null
entity=$(vault write -field=id identity/entity name=ada policies=reader)
accessor=$(vault auth list -format=json | python3 -c 'import json, sys; print(json.load(sys.stdin)["userpass/"]["accessor"])')
vault write identity/entity-alias name=ada canonical_id="$entity" mount_accessor="$accessor" > /dev/null
[ "$(VAULT_TOKEN= vault write -format=json auth/userpass/login/ada password=pw | field auth.entity_id)" = "$entity" ] \
  || fail "the entity of a login"

# Audit devices: enabled, a value found in the log by its hash, and the device gone again.
vault audit enable file file_path="$PWD/requests.log" > /dev/null
vault audit list -detailed | grep -q "file_path=$PWD/requests.log" || fail "audit list"
vault kv put -mount=secret hello foo=findable > /dev/null
hash=$(curl -s -H "X-Vault-Token: $root" --request POST --data '{"input": "findable"}' \
  "$VAULT_ADDR/v1/sys/audit-hash/file" | field hash)
grep -qF "$hash" requests.log || fail "the hash of a value is in the log"
! grep -q findable requests.log || fail "a value is in the log in the clear"
[ "$(tail -n 1 requests.log | field type)" = response ] || fail "the last record"
vault audit disable file > /dev/null
lines=$(wc -l < requests.log)
vault kv get -mount=secret hello > /dev/null
[ "$(wc -l < requests.log)" = "$lines" ] || fail "a disabled device records"
# A typing error in a setting is pointed out.
vault write auth/approle/role/ci token_polices=reader 2>&1 | grep -q 'unrecognized parameters: \[token_polices\]' \
  || fail "a misspelt parameter"

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
  tries=$((tries + 1)); [ $tries -lt 1200 ] || fail "sealed after a restart"
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
