package readyline

import (
	"strings"
	"testing"
)

func TestPrint(t *testing.T) {
	for _, c := range []struct {
		name  string
		line  Line
		want  string
		hints []string
	}{
		{
			"all",
			Line{Redfish: "https://127.0.0.1:20443", SSH: "127.0.0.1:20022", IPMI: "[::1]:20623", ISCSI: "127.0.0.1:23260", User: "admin", Password: "a", IPMIPassword: "b", ReadyMS: 95},
			`{"ready":true,"redfish":"https://127.0.0.1:20443","ssh":"127.0.0.1:20022","ipmi":"[::1]:20623","iscsi":"127.0.0.1:23260","user":"admin","password":"a","ipmi_password":"b","ready_ms":95}`,
			[]string{"ready (95 ms). User admin, password a", "-H ::1 -p 20623 -U admin -P b chassis", "ssh -p 20022 admin@127.0.0.1\n", "ssh -t -p 20022 admin@127.0.0.1 console\n", "curl -ku admin:a https://127.0.0.1:20443/redfish", "iscsi-ls -s iscsi://127.0.0.1:23260\n"},
		},
		{
			"no IPMI, and the login is gone",
			Line{Redfish: "https://127.0.0.1:443", SSH: "127.0.0.1:22", ReadyMS: 1},
			`{"ready":true,"redfish":"https://127.0.0.1:443","ssh":"127.0.0.1:22","ready_ms":1}`,
			[]string{"Log in with what you chose", "ssh -p 22 USER@127.0.0.1\n", "curl -ku USER:PASSWORD"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if err := c.line.Print(&stdout, &stderr); err != nil {
				t.Fatal(err)
			}
			if got := stdout.String(); got != c.want+"\n" {
				t.Errorf("got %swant %s", got, c.want)
			}
			for _, hint := range c.hints {
				if !strings.Contains(stderr.String(), hint) {
					t.Errorf("got hints %q, want %q in them", stderr.String(), hint)
				}
			}
			if c.line.IPMI == "" && strings.Contains(stderr.String(), "ipmitool") {
				t.Errorf("got hints %q, want none about IPMI", stderr.String())
			}
		})
	}
}
