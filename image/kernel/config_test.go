package kernel

import (
	"maps"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	got, err := parseConfig("# A comment.\n\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is what it is\nCONFIG_E=\"-x=y\"\nCONFIG_F=0x10\nCONFIG_A=y\n")
	want := config{"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_C": "", "CONFIG_E": `"-x=y"`, "CONFIG_F": "0x10"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"not a symbol", "CONFIG_A=y\nA=y\n", `line 2: "A=y"`},
		{"no value", "CONFIG_A=\n", "line 1"},
		{"no name", "CONFIG_=y\n", "line 1"},
		{"two values", "CONFIG_A=y\n# CONFIG_A is not set\n", "line 2: CONFIG_A is not set, and above it is y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if c, err := parseConfig(tt.text); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error that begins with %q", c, err, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	asked, err := parseConfig("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"x\"\nCONFIG_E=n\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, got string
		want      []string // what the error names; none for no error
	}{
		{"all there", "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"x\"\nCONFIG_Z=y\n", nil},
		{"what is unset may be unknown", "CONFIG_A=y\nCONFIG_B=m\nCONFIG_D=\"x\"\n", nil},
		{"one is unknown", "CONFIG_B=m\nCONFIG_D=\"x\"\n", []string{"CONFIG_A is not set, not y"}},
		{"all are other", "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=\"y\"\nCONFIG_E=y\n", []string{
			"CONFIG_A is not set, not y", "CONFIG_B is y, not m", "CONFIG_C is m, not not set", `CONFIG_D is "y", not "x"`, "CONFIG_E is y, not not set"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig(tt.got)
			if err != nil {
				t.Fatal(err)
			}
			err = check(asked, got)
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("no error, want %q", tt.want)
			}
			_, list, _ := strings.Cut(err.Error(), ":\n  ")
			if want := strings.Join(tt.want, "\n  "); list != want {
				t.Errorf("got:\n%s\nwant:\n%s", list, want)
			}
		})
	}
}

// TestFragment: the fragment can be read, and asks for what the board cannot do
// without.
func TestFragment(t *testing.T) {
	asked, err := parseConfig(fragment)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"CONFIG_NULL_TTY":      "y", // console=null, on a Pi
		"CONFIG_RD_LZ4":        "y", // what image/initramfs packs with
		"CONFIG_BCM2835_WDT":   "y",
		"CONFIG_PVPANIC_PCI":   "y",
		"CONFIG_VIDEO_VIVID":   "m", // built in, a Pi would have a capture card
		"CONFIG_USB_DUMMY_HCD": "m",
	} {
		if got := asked[name]; got != want {
			t.Errorf("%s is %s, want %s", name, orUnset(got), orUnset(want))
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(fragment)
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		if err := check(c, c); err != nil {
			t.Error(err)
		}
	})
}
