package account

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/redfishtest"
)

// sshLine makes an authorized_keys line; n makes each another.
func sshLine(t testing.TB, n byte) string {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func keyBody(line string) string { return fmt.Sprintf(`{"KeyString":%q,"KeyType":"SSH"}`, line) }

func TestKeys(t *testing.T) {
	r := newRig(t, nil)
	r.admit(t, "operator", "reader")
	keys := uriOf("operator") + "/Keys"
	count := func(want float64) {
		t.Helper()
		if got := r.Want(get(keys, "operator"), 200).At("Members@odata.count"); got != want {
			t.Errorf("%v keys, want %v", got, want)
		}
	}
	count(0)
	line := sshLine(t, 1)
	made := r.Want(post(keys, keyBody(line+" o@desk, the old one\n")), 201)
	uri := made.Header.Get("Location")
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []redfishtest.Answer{made, r.Want(get(uri, "operator"), 200), r.Want(get(uri, "admin"), 200)} {
		if a.At("KeyString") != line+" o@desk, the old one" || a.At("KeyType") != "SSH" || a.At("@odata.id") != uri ||
			a.At("SSH", "Fingerprint") != ssh.FingerprintSHA256(parsed) || a.At("SSH", "Comment") != "o@desk, the old one" {
			t.Errorf("got %s", a.Body)
		}
	}
	second := r.Want(post(keys+"/Members", keyBody(sshLine(t, 2))), 201).Header.Get("Location")
	count(2)
	if u, _ := r.auth.User("operator"); len(u.Keys) != 2 {
		t.Errorf("the user has the keys %q", u.Keys)
	}

	for _, c := range []struct {
		call   redfishtest.Call
		status int
		key    string
	}{
		{post(keys, keyBody(line+" by another name")), 409, "ResourceAlreadyExists"},
		{post(keys, keyBody("ssh-ed25519 AAAA")), 400, "PropertyValueFormatError"},
		{post(keys, keyBody(`command="reboot" `+sshLine(t, 3))), 400, "PropertyValueFormatError"},
		{post(keys, keyBody(sshLine(t, 3)+"\n"+sshLine(t, 4))), 400, "PropertyValueFormatError"},
		{post(keys, keyBody("")), 400, "PropertyValueFormatError"},
		{post(keys, `{"KeyString":7,"KeyType":"SSH"}`), 400, "PropertyValueTypeError"},
		{post(keys, `{"KeyString":"x","KeyType":"NVMeoF"}`), 400, "PropertyValueNotInList"},
		{post(keys, fmt.Sprintf(`{"KeyString":%q}`, sshLine(t, 3))), 400, "PropertyMissing"},
		{get(keys+"/0123456789abcdef", "admin"), 404, "ResourceNotFound"},
		{get(uriOf("none")+"/Keys", "admin"), 404, "ResourceNotFound"},
		{post(uriOf("none")+"/Keys", keyBody(line)), 404, "ResourceNotFound"},
		{get(keys, "reader"), 403, "InsufficientPrivilege"},
		{get(uri, "reader"), 403, "InsufficientPrivilege"},
		{redfishtest.Call{Method: "POST", URI: keys, User: "operator", Body: keyBody(sshLine(t, 3))}, 403, "InsufficientPrivilege"},
		{redfishtest.Call{Method: "DELETE", URI: uri, User: "operator"}, 403, "InsufficientPrivilege"},
		{redfishtest.Call{Method: "DELETE", URI: keys + "/0123456789abcdef", User: "admin"}, 404, "ResourceNotFound"},
		{redfishtest.Call{Method: "PATCH", URI: uri, User: "admin", Body: `{"UserDescription":"x"}`}, 405, "OperationNotAllowed"},
	} {
		r.Want(c.call, c.status, c.key)
	}
	count(2)

	r.Want(redfishtest.Call{Method: "DELETE", URI: uri, User: "admin"}, 204)
	r.Want(get(uri, "admin"), 404, "ResourceNotFound")
	r.Want(get(second, "admin"), 200)
	count(1)

	r.auth.breakDown(errors.New("disk full"))
	r.Want(post(keys, keyBody(sshLine(t, 5))), 500, "InternalError")
	r.Want(redfishtest.Call{Method: "DELETE", URI: second, User: "admin"}, 500, "InternalError")
	r.auth.breakDown(nil)
	for n := byte(1); n < auth.MaxKeys; n++ {
		r.Want(post(keys, keyBody(sshLine(t, 10+n))), 201)
	}
	r.Want(post(keys, keyBody(sshLine(t, 9))), 409, "CreateLimitReachedForResource")
}

// The same key twice is one.
func TestKeyTwice(t *testing.T) {
	r := newRig(t, nil)
	if err := r.auth.Auth.SetKeys("operator", []string{sshLine(t, 1) + " a", sshLine(t, 2), sshLine(t, 1) + " b"}, auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	a := r.Want(get(uriOf("operator")+"/Keys", "admin"), 200)
	if got := a.At("Members@odata.count"); got != 2.0 {
		t.Fatalf("%v keys, want 2", got)
	}
	first, _ := a.At("Members").([]any)[0].(map[string]any)["@odata.id"].(string)
	r.Want(redfishtest.Call{Method: "DELETE", URI: first, User: "admin"}, 204)
	if u, _ := r.auth.User("operator"); len(u.Keys) != 1 || u.Keys[0] != sshLine(t, 2) {
		t.Errorf("left are %q", u.Keys)
	}
}

// FuzzKey: what package auth takes is shown, and as the SSH library sees it.
func FuzzKey(f *testing.F) {
	for _, line := range []string{sshLine(f, 1), sshLine(f, 2) + " a b", "\t" + sshLine(f, 3) + "\t", "ssh-rsa AAAA", "ssh-ed25519 ====", "a b c", ""} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		k, readable := newKey(auth.User{Name: "u"}, line)
		if auth.CheckKey(line) != nil {
			return
		}
		parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if !readable || k.SSH.Fingerprint != ssh.FingerprintSHA256(parsed) || len(k.ID) != 16 {
			t.Errorf("%q: got %+v, %v, want %s", line, k, readable, ssh.FingerprintSHA256(parsed))
		}
	})
}
