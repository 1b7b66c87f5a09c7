// Drives a store by Vault's own Go client, as Terraform, Vault Agent and operators do.
// VAULT_ADDR and VAULT_TOKEN say where; each step that failed is a line, and "done" is the last.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/userpass"
)

var (
	ctx = context.Background()
	yes = true
)

func step(name string, work func() error) {
	defer func() {
		if found := recover(); found != nil {
			fmt.Printf("%s: %v\n", name, found)
		}
	}()
	if err := work(); err != nil {
		fmt.Printf("%s: %v\n", name, err)
	}
}

func same(found, wanted any) error {
	if fmt.Sprint(found) != fmt.Sprint(wanted) {
		return fmt.Errorf("%v where %v was expected", found, wanted)
	}
	return nil
}

func status(err error) int {
	var said *vault.ResponseError
	if errors.As(err, &said) {
		return said.StatusCode
	}
	return 0
}

func must[T any](found T, err error) T {
	if err != nil {
		panic(err)
	}
	return found
}

func main() {
	client := must(vault.NewClient(vault.DefaultConfig()))
	step("mounts", func() error { return mounts(client.Sys()) })
	step("auth methods", func() error { return authMethods(client.Sys()) })
	step("tokens", func() error { return tokens(client) })
	step("renewal", func() error { return renewal(client) })
	step("logins", func() error { return logins(client) })
	step("kv", func() error { return kv(client) })
	step("logical", func() error { return logical(client) })
	step("wrapping", func() error { return wrapping(client) })
	step("system", func() error { return system(client) })
	fmt.Println("done")
}

func mounts(sys *vault.Sys) error {
	text := "new"
	two := map[string]string{"version": "2"}
	config := vault.MountConfigInput{DefaultLeaseTTL: "1h", ListingVisibility: "unauth"}
	must(0, sys.Mount("team", &vault.MountInput{Type: "kv", Options: two, Config: config}))
	must(0, sys.Mount("old", &vault.MountInput{Type: "kv"}))
	must(0, sys.TuneMount("team", vault.MountConfigInput{MaxLeaseTTL: "5h"}))
	must(0, sys.TuneMountAllowNil("team", vault.TuneMountConfigInput{Description: &text}))
	must(0, sys.Remount("old", "older"))
	team := must(sys.ListMounts())["team/"]
	return same([]any{team.Type, team.Description, team.Options["version"], team.Config.MaxLeaseTTL},
		[]any{"kv", "new", "2", 18000})
}

func authMethods(sys *vault.Sys) error {
	kind := "service"
	must(0, sys.EnableAuth("up", "userpass", "people"))
	must(0, sys.EnableAuthWithOptions("ar", &vault.EnableAuthOptions{Type: "approle"}))
	must(0, sys.TuneMount("auth/up", vault.MountConfigInput{DefaultLeaseTTL: "20m"}))
	must(0, sys.TuneMountAllowNil("auth/up", vault.TuneMountConfigInput{TokenType: &kind}))
	config := must(sys.MountConfig("auth/up"))
	mount := must(sys.GetAuth("up"))
	return same([]any{config.DefaultLeaseTTL, config.TokenType, mount.Type, len(must(sys.ListAuth()))},
		[]any{1200, "service", "userpass", 3})
}

func tokens(client *vault.Client) error {
	api := client.Auth().Token()
	made := must(api.Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "1h",
		Metadata: map[string]string{"a": "b"}, Renewable: &yes}))
	token, accessor := made.Auth.ClientToken, made.Auth.Accessor
	must(api.CreateOrphan(&vault.TokenCreateRequest{Period: "1h"}))
	looked := must(api.Lookup(token))
	must(api.LookupAccessor(accessor))
	must(api.Renew(token, 60))
	must(api.RenewAccessor(accessor, 60))
	must(api.RenewTokenAsSelf(token, 0))
	allowed := must(client.Sys().Capabilities(token, "auth/token/lookup-self"))
	must(0, api.RevokeAccessor(accessor))
	_, gone := api.LookupAccessor(accessor)
	return same([]any{must(looked.TokenMetadata()), must(looked.TokenPolicies()), allowed, status(gone)},
		[]any{map[string]string{"a": "b"}, []string{"default"}, []string{"read"}, 400})
}

func renewal(client *vault.Client) error {
	made := must(client.Auth().Token().Create(&vault.TokenCreateRequest{TTL: "1m", Renewable: &yes}))
	own := must(client.Clone())
	own.SetToken(made.Auth.ClientToken)
	watcher := must(own.NewLifetimeWatcher(&vault.LifetimeWatcherInput{Secret: made}))
	go watcher.Start()
	defer watcher.Stop()
	select {
	case <-watcher.RenewCh():
		return nil
	case err := <-watcher.DoneCh():
		return fmt.Errorf("it ended: %v", err)
	case <-time.After(time.Minute):
		return errors.New("it renewed nothing")
	}
}

func logins(client *vault.Client) error {
	api := client.Logical()
	must(api.Write("auth/up/users/ada", map[string]any{"password": "pw"}))
	must(api.Write("auth/ar/role/ci", map[string]any{"token_ttl": "10m"}))
	person := must(userpass.NewUserpassAuth("ada", &userpass.Password{FromString: "pw"}, userpass.WithMountPath("up")))
	must(must(client.Clone()).Auth().Login(ctx, person))
	role := must(api.Read("auth/ar/role/ci/role-id")).Data["role_id"].(string)
	wraps := must(client.Clone())
	wraps.SetToken(client.Token())
	wraps.SetWrappingLookupFunc(func(_, _ string) string { return "5m" })
	wrapped := must(wraps.Logical().Write("auth/ar/role/ci/secret-id", nil)).WrapInfo.Token
	job := must(approle.NewAppRoleAuth(role, &approle.SecretID{FromString: wrapped},
		approle.WithMountPath("ar"), approle.WithWrappingToken()))
	must(must(client.Clone()).Auth().Login(ctx, job))
	return nil
}

func kv(client *vault.Client) error {
	old, team := client.KVv1("older"), client.KVv2("team")
	must(0, old.Put(ctx, "a", map[string]any{"k": "v"}))
	first := must(old.Get(ctx, "a")).Data["k"]
	must(team.Put(ctx, "a/b", map[string]any{"k": "v"}, vault.WithCheckAndSet(0)))
	_, late := team.Put(ctx, "a/b", map[string]any{"k": "v"}, vault.WithCheckAndSet(0))
	must(team.Patch(ctx, "a/b", map[string]any{"x": "y"}))
	must(team.Patch(ctx, "a/b", map[string]any{"x": "z"}, vault.WithMergeMethod("rw")))
	most := 7
	must(0, team.PatchMetadata(ctx, "a/b", vault.KVMetadataPatchInput{MaxVersions: &most}))
	must(0, team.DeleteVersions(ctx, "a/b", []int{1, 3}))
	deleted := must(team.Get(ctx, "a/b"))
	must(0, team.Undelete(ctx, "a/b", []int{1}))
	must(team.Rollback(ctx, "a/b", 1))
	must(0, team.Destroy(ctx, "a/b", []int{1}))
	metadata := must(team.GetMetadata(ctx, "a/b"))
	versions := must(team.GetVersionsAsList(ctx, "a/b"))
	must(0, team.DeleteMetadata(ctx, "a/b"))
	_, gone := team.Get(ctx, "a/b")
	return same([]any{first, status(late), deleted.Data == nil, metadata.MaxVersions, len(versions),
		versions[0].Destroyed, errors.Is(gone, vault.ErrSecretNotFound)},
		[]any{"v", 400, true, 7, 4, true, true})
}

func logical(client *vault.Client) error {
	api := client.Logical()
	must(api.WriteBytes("team/data/p", []byte(`{"data":{"a":"1"}}`)))
	must(api.JSONMergePatch(ctx, "team/data/p", map[string]any{"data": map[string]any{"b": "2", "a": nil}}))
	older := must(api.ReadWithData("team/data/p", map[string][]string{"version": {"1"}}))
	listed := must(api.List("team/metadata")).Data["keys"]
	must(api.Delete("team/data/p"))
	deleted := must(api.Read("team/data/p"))
	none := must(api.Read("team/data/none"))
	help := must(client.Help("team")).Help
	return same([]any{older.Data["data"], listed, deleted.Data["data"], none == nil, help != ""},
		[]any{map[string]any{"a": "1"}, []any{"p"}, nil, true, true})
}

func wrapping(client *vault.Client) error {
	wraps := must(client.Clone())
	wraps.SetToken(client.Token())
	wraps.SetWrappingLookupFunc(func(_, _ string) string { return "60" })
	info := must(wraps.Auth().Token().Create(&vault.TokenCreateRequest{})).WrapInfo
	holder := must(client.Clone())
	holder.SetToken(info.Token)
	held := must(must(holder.Logical().Unwrap("")).TokenAccessor())
	_, again := client.Logical().Unwrap(info.Token)
	return same([]any{info.CreationPath, info.TTL, held == info.WrappedAccessor, status(again)},
		[]any{"auth/token/create", 60, true, 400})
}

func system(client *vault.Client) error {
	sys := client.Sys()
	must(0, sys.PutPolicy("p", `path "a" { capabilities = ["read"] }`))
	policy := must(sys.GetPolicy("p"))
	must(0, sys.DeletePolicy("p"))
	must(0, sys.ConfigureCORS(&vault.CORSRequest{AllowedOrigins: []string{"https://a"}}))
	cors := must(sys.CORSStatus()).Enabled
	must(0, sys.DisableCORS())
	must(0, sys.Rotate())
	health, leader := must(sys.Health()), must(sys.Leader())
	must(sys.HAStatus())
	must(sys.ListAudit())
	must(0, sys.RevokePrefix("auth/up/"))
	var snapshot bytes.Buffer
	must(0, sys.RaftSnapshot(&snapshot))
	must(0, sys.RaftSnapshotRestore(&snapshot, false))
	must(0, sys.Unmount("older"))
	must(0, sys.DisableAuth("up"))
	return same([]any{policy != "", cors, health.Sealed, leader.IsSelf, must(sys.KeyStatus()).Term},
		[]any{true, true, false, true, 2})
}
