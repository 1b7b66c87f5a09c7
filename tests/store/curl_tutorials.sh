#!/usr/bin/env bash
# The steps of Vault's well-known tutorials, by their HTTP calls, with curl alone.
# Argument: the tutorial. VAULT_ADDR and VAULT_TOKEN say where and who. Prints "finished".
# https://developer.hashicorp.com/vault/tutorials
set -eu

api() { # api VERB PATH [curl's arguments]: the body, whatever the status
  local verb=$1 path=$2; shift 2
  curl --silent --header "X-Vault-Token: $VAULT_TOKEN" --request "$verb" "$@" "$VAULT_ADDR/v1/$path"
}
code() { api "$@" --output /dev/null --write-out '%{http_code}'; }
as() { local token=$1; shift; VAULT_TOKEN=$token "$@"; } # as TOKEN api ...
field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("/"):
    value = value[int(name)] if isinstance(value, list) else value[name]
print(json.dumps(value, sort_keys=True) if isinstance(value, (dict, list, bool)) else value)' "$1"; }
same() { [ "$1" = "$2" ] || { echo "FAILED: expected '$2', found '$1'" >&2; exit 1; }; }
b64() { printf %s "$1" | base64 | tr -d '\n'; }

versions() { # Versioned key/value secrets engine
  same "$(code POST sys/mounts/kvv2 --data '{"type":"kv-v2"}')" 204
  same "$(api POST kvv2/data/customer/acme --data '{"data":{"name":"ACME Inc.","contact_email":"john@acme.com"}}' | field data/version)" 1
  same "$(api POST kvv2/data/customer/acme --data '{"data":{"name":"ACME Inc.","contact_email":"admin@acme.com"}}' | field data/version)" 2
  same "$(api GET 'kvv2/data/customer/acme?version=1' | field data/data/contact_email)" john@acme.com
  same "$(api PATCH kvv2/data/customer/acme --header 'Content-Type: application/merge-patch+json' --data '{"data":{"contact_email":"support@acme.com"}}' | field data/version)" 3
  same "$(api GET kvv2/data/customer/acme | field data/data)" '{"contact_email": "support@acme.com", "name": "ACME Inc."}'
  same "$(code POST kvv2/metadata/customer/acme --data '{"custom_metadata":{"Membership":"Platinum","Region":"US West"},"max_versions":4}')" 204
  same "$(api GET kvv2/data/customer/acme | field data/metadata/custom_metadata/Membership)" Platinum
  same "$(code POST kvv2/config --data '{"max_versions":4}')" 204
  same "$(api GET kvv2/config | field data/max_versions)" 4
  for number in 4 5 6 7; do
    same "$(api POST kvv2/data/customer/acme --data "{\"data\":{\"name\":\"$number\"}}" | field data/version)" $number
  done
  same "$(api GET kvv2/metadata/customer/acme | field data/oldest_version)" 4
  same "$(code POST kvv2/delete/customer/acme --data '{"versions":[4,5]}')" 204
  same "$(code GET 'kvv2/data/customer/acme?version=4')" 404
  same "$(code POST kvv2/undelete/customer/acme --data '{"versions":[5]}')" 204
  same "$(api GET 'kvv2/data/customer/acme?version=5' | field data/data/name)" 5
  same "$(code POST kvv2/destroy/customer/acme --data '{"versions":[4]}')" 204
  same "$(api GET kvv2/metadata/customer/acme | field data/versions/4/destroyed)" true
  same "$(api GET kvv2/subkeys/customer/acme | field data/subkeys)" '{"name": null}'
  # Check-and-set.
  same "$(code POST kvv2/metadata/partner --data '{"cas_required":true}')" 204
  same "$(code POST kvv2/data/partner --data '{"data":{"name":"Example Co."}}')" 400
  same "$(api POST kvv2/data/partner --data '{"options":{"cas":0},"data":{"name":"Example Co."}}' | field data/version)" 1
  same "$(code POST kvv2/data/partner --data '{"options":{"cas":0},"data":{"name":"Other Co."}}')" 400
  same "$(code DELETE kvv2/metadata/customer/acme)" 204
  same "$(api LIST kvv2/metadata | field data/keys)" '["partner"]'
}

policies() { # Policies: an admin's policy, capabilities, and what a token may
  cat > policy.json <<'JSON'
{"policy": "path \"secret/data/creds/*\" {\n  capabilities = [\"create\", \"read\"]\n}\npath \"secret/data/creds/confidential\" {\n  capabilities = [\"read\"]\n}\npath \"sys/policies/acl/*\" {\n  capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"]\n}"}
JSON
  same "$(code PUT sys/policies/acl/admin --data @policy.json)" 204
  same "$(api LIST sys/policies/acl | field data/keys)" '["admin", "default", "root"]'
  api GET sys/policies/acl/admin | field data/policy | grep -q 'creds/confidential'
  api GET sys/policy/admin | field rules | grep -q 'creds/confidential'
  token=$(api POST auth/token/create --data '{"policies":"admin"}' | field auth/client_token)
  same "$(api POST sys/capabilities --data "{\"token\":\"$token\",\"path\":\"sys/policies/acl/x\"}" | field capabilities)" \
    '["create", "delete", "list", "read", "sudo", "update"]'
  same "$(as "$token" api POST sys/capabilities-self --data '{"path":"sys/auth/approle"}' | field capabilities)" '["deny"]'
  same "$(as "$token" code POST secret/data/creds/one --data '{"data":{"k":"v"}}')" 200
  same "$(as "$token" code POST secret/data/creds/one --data '{"data":{"k":"w"}}')" 403
  same "$(as "$token" code POST secret/data/creds/confidential --data '{"data":{"k":"v"}}')" 403
  same "$(code DELETE sys/policies/acl/admin)" 204
  same "$(code GET sys/policies/acl/admin)" 404
}

approle() { # AppRole auth method, with the secret id wrapped
  same "$(code POST sys/auth/approle --data '{"type":"approle"}')" 204
  same "$(code PUT sys/policies/acl/jenkins --data '{"policy":"path \"secret/data/mysql/*\" { capabilities = [\"read\"] }"}')" 204
  same "$(code POST auth/approle/role/jenkins --data '{"token_policies":"jenkins","token_ttl":"1h","token_max_ttl":"4h"}')" 204
  same "$(api GET auth/approle/role/jenkins | field data/token_ttl)" 3600
  role=$(api GET auth/approle/role/jenkins/role-id | field data/role_id)
  wrapped=$(api POST auth/approle/role/jenkins/secret-id --header 'X-Vault-Wrap-TTL: 60s' | field wrap_info/token)
  secret=$(as "$wrapped" api POST sys/wrapping/unwrap | field data/secret_id)
  same "$(as "$wrapped" code POST sys/wrapping/unwrap)" 400
  body="{\"role_id\":\"$role\",\"secret_id\":\"$secret\"}"
  curl --silent --request POST --data "$body" "$VAULT_ADDR/v1/auth/approle/login" > login.json
  same "$(field auth/metadata/role_name < login.json)" jenkins
  same "$(field auth/policies < login.json)" '["default", "jenkins"]'
  token=$(field auth/client_token < login.json)
  api POST secret/data/mysql/webapp --data '{"data":{"db_name":"users"}}' > /dev/null
  same "$(as "$token" api GET secret/data/mysql/webapp | field data/data/db_name)" users
  same "$(code POST auth/approle/role/jenkins/secret-id/destroy --data "{\"secret_id\":\"$secret\"}")" 204
  same "$(code POST auth/approle/login --data "$body")" 400
}

wrapping() { # Cubbyhole response wrapping
  same "$(code PUT sys/policies/acl/apps --data '{"policy":"path \"secret/data/dev\" { capabilities = [\"read\"] }"}')" 204
  api POST secret/data/dev --data '{"data":{"username":"webapp"}}' > /dev/null
  api POST auth/token/create --header 'X-Vault-Wrap-TTL: 120' --data '{"policies":["apps"]}' > wrapped.json
  token=$(field wrap_info/token < wrapped.json)
  same "$(field wrap_info/ttl < wrapped.json)" 120
  same "$(field wrap_info/creation_path < wrapped.json)" auth/token/create
  same "$(curl --silent --request POST --data "{\"token\":\"$token\"}" "$VAULT_ADDR/v1/sys/wrapping/lookup" | field data/creation_ttl)" 120
  client=$(as "$token" api POST sys/wrapping/unwrap | field auth/client_token)
  same "$(as "$client" api GET secret/data/dev | field data/data/username)" webapp
  # A wrapped answer to a read, unwrapped by somebody else with the token in the body.
  token=$(api GET secret/data/dev --header 'X-Vault-Wrap-TTL: 1m' | field wrap_info/token)
  same "$(api POST sys/wrapping/unwrap --data "{\"token\":\"$token\"}" | field data/data/username)" webapp
  # A cubbyhole is its token's own.
  same "$(as "$client" code POST cubbyhole/private --data '{"mobile":"123"}')" 204
  same "$(as "$client" api GET cubbyhole/private | field data/mobile)" 123
  same "$(code GET cubbyhole/private)" 404
}

transit() { # Encryption as a service
  same "$(code POST sys/mounts/transit --data '{"type":"transit"}')" 204
  same "$(code POST transit/keys/orders)" 200
  first=$(api POST transit/encrypt/orders --data "{\"plaintext\":\"$(b64 4111)\"}" | field data/ciphertext)
  case $first in vault:v1:*) ;; *) same "$first" 'vault:v1:...' ;; esac
  same "$(api POST transit/decrypt/orders --data "{\"ciphertext\":\"$first\"}" | field data/plaintext)" "$(b64 4111)"
  same "$(code POST transit/keys/orders/rotate)" 200
  second=$(api POST transit/rewrap/orders --data "{\"ciphertext\":\"$first\"}" | field data/ciphertext)
  case $second in vault:v2:*) ;; *) same "$second" 'vault:v2:...' ;; esac
  same "$(code POST transit/keys/orders/config --data '{"min_decryption_version":2}')" 200
  same "$(code POST transit/decrypt/orders --data "{\"ciphertext\":\"$first\"}")" 400
  same "$(api GET transit/keys/orders | field data/min_decryption_version)" 2
  api POST transit/datakey/plaintext/orders > key.json
  same "$(api POST transit/decrypt/orders --data "{\"ciphertext\":\"$(field data/ciphertext < key.json)\"}" | field data/plaintext)" "$(field data/plaintext < key.json)"
  same "$(code POST transit/keys/signs --data '{"type":"ecdsa-p256"}')" 200
  signature=$(api POST transit/sign/signs --data "{\"input\":\"$(b64 text)\"}" | field data/signature)
  same "$(api POST transit/verify/signs --data "{\"input\":\"$(b64 text)\",\"signature\":\"$signature\"}" | field data/valid)" true
  same "$(api POST transit/verify/signs --data "{\"input\":\"$(b64 other)\",\"signature\":\"$signature\"}" | field data/valid)" false
  api POST transit/encrypt/orders --data "{\"batch_input\":[{\"plaintext\":\"$(b64 a)\"},{\"plaintext\":\"$(b64 b)\"}]}" | field data/batch_results/1/ciphertext | grep -q '^vault:v2:'
  same "$(code DELETE transit/keys/orders)" 400
}

tokens() { # Tokens: use limits, periods, orphans, roles, batch tokens
  limited=$(api POST auth/token/create --data '{"policies":["default"],"ttl":"1h","num_uses":2}' | field auth/client_token)
  same "$(as "$limited" code GET auth/token/lookup-self)" 200
  same "$(as "$limited" code POST cubbyhole/token --data '{"value":"1"}')" 204
  same "$(as "$limited" code GET cubbyhole/token)" 403
  same "$(code POST auth/token/roles/zabbix --data '{"allowed_policies":["default"],"period":"24h"}')" 204
  same "$(api LIST auth/token/roles | field data/keys)" '["zabbix"]'
  periodic=$(api POST auth/token/create/zabbix | field auth/client_token)
  same "$(api POST auth/token/lookup --data "{\"token\":\"$periodic\"}" | field data/period)" 86400
  same "$(api POST auth/token/renew --data "{\"token\":\"$periodic\"}" | field auth/lease_duration)" 86400
  parent=$(api POST auth/token/create --data '{"ttl":60}' | field auth/client_token)
  child=$(as "$parent" api POST auth/token/create --data '{"ttl":180}' | field auth/client_token)
  orphan=$(api POST auth/token/create-orphan --data '{"ttl":180}' | field auth/client_token)
  same "$(code POST auth/token/revoke --data "{\"token\":\"$parent\"}")" 204
  same "$(code POST auth/token/lookup --data "{\"token\":\"$child\"}")" 403
  same "$(api POST auth/token/lookup --data "{\"token\":\"$orphan\"}" | field data/orphan)" true
  batch=$(api POST auth/token/create --data '{"type":"batch","policies":["default"],"ttl":"20m"}' | field auth/client_token)
  case $batch in hvb.*) ;; *) same "$batch" 'hvb...' ;; esac
  same "$(as "$batch" api GET auth/token/lookup-self | field data/type)" batch
  same "$(as "$batch" code POST auth/token/renew-self)" 400
  accessor=$(api POST auth/token/create --data '{}' | field auth/accessor)
  same "$(code POST auth/token/revoke-accessor --data "{\"accessor\":\"$accessor\"}")" 204
}

userpass() { # Userpass, its tokens' times, and a user's own password
  same "$(code POST sys/auth/userpass --data '{"type":"userpass"}')" 204
  same "$(code POST auth/userpass/users/mitchellh --data '{"password":"superSecretPassword","token_policies":"default","token_ttl":"10m"}')" 204
  curl --silent --request POST --data '{"password":"superSecretPassword"}' "$VAULT_ADDR/v1/auth/userpass/login/mitchellh" > login.json
  same "$(field auth/lease_duration < login.json)" 600
  same "$(field auth/metadata/username < login.json)" mitchellh
  token=$(field auth/client_token < login.json)
  same "$(as "$token" api GET auth/token/lookup-self | field data/display_name)" userpass-mitchellh
  same "$(code POST sys/auth/userpass/tune --data '{"max_lease_ttl":"20m"}')" 204
  same "$(api GET sys/auth/userpass/tune | field data/max_lease_ttl)" 1200
  same "$(code POST auth/userpass/users/mitchellh/password --data '{"password":"another"}')" 204
  same "$(code POST auth/userpass/login/mitchellh --data '{"password":"superSecretPassword"}')" 400
  same "$(api LIST auth/userpass/users | field data/keys)" '["mitchellh"]'
  same "$(code PUT sys/leases/revoke-prefix/auth/userpass)" 204
  same "$(as "$token" code GET auth/token/lookup-self)" 403
  same "$(code DELETE sys/auth/userpass)" 204
}

leases() { # Leases: looked up, renewed, listed and revoked, one and by prefix
  same "$(code POST sys/mounts/iss --data '{"type":"issuer"}')" 204
  api GET 'iss/creds/app?ttl=1h' > lease.json
  lease=$(field lease_id < lease.json)
  same "$(field lease_duration < lease.json)" 3600
  same "$(api PUT sys/leases/lookup --data "{\"lease_id\":\"$lease\"}" | field data/renewable)" true
  same "$(api PUT sys/leases/renew --data "{\"lease_id\":\"$lease\",\"increment\":1800}" | field lease_duration)" 1800
  same "$(api LIST sys/leases/lookup/iss/creds/app | field data/keys)" "[\"${lease##*/}\"]"
  same "$(code PUT sys/leases/revoke --data "{\"lease_id\":\"$lease\"}")" 204
  same "$(code PUT sys/leases/lookup --data "{\"lease_id\":\"$lease\"}")" 400
  one=$(api GET iss/creds/app | field lease_id)
  two=$(api GET iss/creds/app | field lease_id)
  same "$(code PUT sys/leases/revoke-prefix/iss/creds)" 204
  for lease in $one $two; do
    same "$(code PUT sys/leases/lookup --data "{\"lease_id\":\"$lease\"}")" 400
  done
  same "$(code LIST sys/leases/lookup/iss/creds/app)" 404
  # A token is a lease as well: what it made can be renewed no more, and ends in the background.
  token=$(api POST auth/token/create --data '{"policies":["root"],"ttl":"1h"}' | field auth/client_token)
  lease=$(as "$token" api GET iss/creds/app | field lease_id)
  same "$(code PUT auth/token/revoke --data "{\"token\":\"$token\"}")" 204
  same "$(api PUT sys/leases/lookup --data "{\"lease_id\":\"$lease\"}" | field data/renewable)" false
  same "$(code POST sys/leases/tidy)" 202
}

audit() { # Audit devices: what is enabled, and the hash of a value to look for in a log
  same "$(api GET sys/audit | field memory/type)" file
  hash=$(api POST sys/audit-hash/memory --data '{"input":"my-secret"}' | field hash)
  case $hash in hmac-sha256:*) ;; *) same "$hash" 'hmac-sha256:...' ;; esac
  same "$(api POST sys/audit-hash/memory --data '{"input":"my-secret"}' | field data/hash)" "$hash"
  same "$(code PUT sys/audit/mine --data '{"type":"file","options":{"file_path":"stdout"}}')" 400
  same "$(code POST sys/config/auditing/request-headers/X-Trace --data '{"hmac":true}')" 204
  same "$(api GET sys/config/auditing/request-headers | field headers/x-trace/hmac)" true
  same "$(code DELETE sys/config/auditing/request-headers/X-Trace)" 204
}

identity() { # Identity: one entity with two aliases, and a group
  for path in userpass-test userpass-qa; do
    same "$(code POST sys/auth/$path --data '{"type":"userpass"}')" 204
  done
  for name in base test team-qa team-eng; do
    same "$(code PUT sys/policies/acl/$name --data "{\"policy\":\"path \\\"secret/data/$name\\\" { capabilities = [\\\"create\\\", \\\"read\\\"] }\"}")" 204
  done
  same "$(code POST auth/userpass-test/users/bob --data '{"password":"training","policies":"test"}')" 204
  same "$(code POST auth/userpass-qa/users/bsmith --data '{"password":"training","policies":"team-qa"}')" 204
  api GET sys/auth > auth.json
  test_accessor=$(python3 -c 'import json; print(json.load(open("auth.json"))["userpass-test/"]["accessor"])')
  qa_accessor=$(python3 -c 'import json; print(json.load(open("auth.json"))["userpass-qa/"]["accessor"])')
  entity=$(api POST identity/entity --data '{"name":"bob-smith","metadata":{"organization":"ACME Inc.","team":"QA"},"policies":["base"]}' | field data/id)
  same "$(code POST identity/entity-alias --data "{\"name\":\"bob\",\"canonical_id\":\"$entity\",\"mount_accessor\":\"$test_accessor\"}")" 200
  same "$(code POST identity/entity-alias --data "{\"name\":\"bsmith\",\"canonical_id\":\"$entity\",\"mount_accessor\":\"$qa_accessor\"}")" 200
  same "$(api GET identity/entity/id/$entity | field data/metadata/team)" QA
  curl --silent --request POST --data '{"password":"training"}' "$VAULT_ADDR/v1/auth/userpass-test/login/bob" > login.json
  same "$(field auth/entity_id < login.json)" "$entity"
  same "$(field auth/policies < login.json)" '["base", "default", "test"]'
  same "$(field auth/token_policies < login.json)" '["default", "test"]'
  token=$(field auth/client_token < login.json)
  same "$(api POST identity/group --data "{\"name\":\"engineers\",\"policies\":[\"team-eng\"],\"member_entity_ids\":[\"$entity\"],\"metadata\":{\"team\":\"Engineering\"}}" | field data/name)" engineers
  same "$(as "$token" api POST sys/capabilities-self --data '{"path":"secret/data/team-eng"}' | field capabilities)" '["create", "read"]'
  same "$(as "$token" api POST sys/capabilities-self --data '{"path":"secret/data/team-qa"}' | field capabilities)" '["deny"]'
  same "$(api POST identity/lookup/entity --data '{"name":"bob-smith"}' | field data/id)" "$entity"
}

"$1"
echo finished
