package deptest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/nitrino/nitrino"

// below is what front-ends stand on.
var below = []string{"screen", "block", "update", "media", "host", "auth", "internal"}

// arrows are the module's: cmds, uinit → bmc → front-ends, netboot, overlay →
// screen, block, update, media → host, auth → internal; board → host.
var arrows = []Rule{
	{Folder: "cmds", May: []string{"bmc", "board", "image", "update", "internal"}},
	{Folder: "uinit", May: []string{"bmc", "board", "internal"}},
	{Folder: "bmc", May: append([]string{"ipmi", "redfish", "console", "kvm", "libvirt", "web", "metrics", "netboot", "overlay", "network", "clock", "board"}, below...)},

	{Folder: "ipmi", May: below},
	{Folder: "redfish", May: below},
	{Folder: "console", May: below},
	{Folder: "kvm", May: below},
	{Folder: "libvirt", May: below},
	{Folder: "web", May: below},
	{Folder: "metrics", May: below},
	{Folder: "netboot", May: below},
	{Folder: "overlay", May: below},

	{Folder: "network", May: []string{"internal"}},
	{Folder: "clock", May: []string{"host", "internal"}},
	{Folder: "screen", May: []string{"host", "auth", "internal"}},
	{Folder: "block", May: []string{"host", "auth", "internal"}},
	{Folder: "update", May: []string{"host", "auth", "internal"}},
	{Folder: "media", May: []string{"host", "auth", "internal"}},

	{Folder: "board", May: []string{"host", "internal"}},
	{Folder: "host", May: []string{"internal"}, NoModules: true},
	{Folder: "auth", May: []string{"internal"}},
	{Folder: "internal", Reflect: true},

	{Folder: "image", May: []string{"update", "internal"}},
	{Folder: "test", May: []string{"*"}},
}

func TestModule(t *testing.T) {
	root := filepath.Join("..", "..")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(mod), "\n"); strings.TrimSpace(first) != "module "+module {
		t.Fatalf("go.mod begins with %q, want the module %s", first, module)
	}
	found, err := Check(os.DirFS(root), module, arrows)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// TestChecker breaks each rule once, and comes close to it once.
func TestChecker(t *testing.T) {
	imports := func(of ...string) string {
		return "package p\n\nimport (\n\t\"" + strings.Join(of, "\"\n\t\"") + "\"\n)\n"
	}
	nitrino := func(of ...string) string {
		for i, p := range of {
			of[i] = module + "/" + p
		}
		return imports(of...)
	}
	for _, tt := range []struct {
		name, file, text string
		want             string // "" for nothing, else the violation's beginning
	}{
		{"a command's arrows", "cmds/a/a.go", nitrino("bmc", "board/sim", "internal/store"), ""},
		{"a command past bmc", "cmds/a/a.go", nitrino("bmc", "ipmi"), "cmds/a/a.go:5: cmds/a imports ipmi: the arrow cmds → ipmi is not allowed, cmds may import bmc, board, image, update, internal; "},
		{"uinit past bmc", "uinit/a.go", nitrino("host"), "uinit/a.go:4: uinit imports host: the arrow uinit → host"},
		{"bmc imports all", "bmc/a.go", nitrino("ipmi", "redfish/odata", "web", "netboot", "overlay", "screen", "host", "auth", "board/rpi", "internal/store"), ""},
		{"bmc imports a command", "bmc/a.go", nitrino("cmds/bmcsim"), "bmc/a.go:4: bmc imports cmds/bmcsim: the arrow bmc → cmds"},
		{"a front-end's arrows", "redfish/a.go", nitrino("host", "auth", "screen", "block/iscsi", "update", "internal/store", "redfish/odata"), ""},
		{"a front-end imports another", "redfish/a.go", nitrino("ipmi"), "redfish/a.go:4: redfish imports ipmi: the arrow redfish → ipmi"},
		{"whose name only begins alike", "kvm/a.go", nitrino("kvmx/rfb"), "kvm/a.go:4: kvm imports kvmx/rfb: the arrow kvm → kvmx"},
		{"deep within", "redfish/odata/a.go", nitrino("ipmi/sol"), "redfish/odata/a.go:4: redfish/odata imports ipmi/sol: the arrow redfish → ipmi"},
		{"a front-end imports a board", "console/a.go", nitrino("board"), "console/a.go:4: console imports board: the arrow console → board"},
		{"a front-end imports bmc", "web/a.go", nitrino("bmc"), "web/a.go:4: web imports bmc: the arrow web → bmc"},
		{"its test does", "web/a_test.go", nitrino("bmc"), "web/a_test.go:4: web imports bmc: the arrow web → bmc"},
		{"its test under a tag does", "web/a_test.go", "//go:build e2e\n\n" + nitrino("bmc"), "web/a_test.go:6: web imports bmc: the arrow web → bmc"},
		{"the network's services", "netboot/a.go", nitrino("overlay"), "netboot/a.go:4: netboot imports overlay: the arrow netboot → overlay"},
		{"the middle imports its like", "block/a.go", nitrino("update"), "block/a.go:4: block imports update: the arrow block → update"},
		{"the middle looks up", "screen/a.go", nitrino("kvm"), "screen/a.go:4: screen imports kvm: the arrow screen → kvm"},
		{"host's arrows", "host/a.go", nitrino("internal/store"), ""},
		{"host imports auth", "host/a.go", nitrino("auth"), "host/a.go:4: host imports auth: the arrow host → auth"},
		{"host imports a module", "host/a.go", imports("context", "golang.org/x/sys/unix"), "host/a.go:5: host imports golang.org/x/sys/unix: host may import only the standard library and internal; "},
		{"auth may", "auth/a.go", imports("context", "golang.org/x/crypto/argon2"), ""},
		{"auth imports host", "auth/a.go", nitrino("host"), "auth/a.go:4: auth imports host: the arrow auth → host"},
		{"internal looks up", "internal/store/a.go", nitrino("host"), "internal/store/a.go:4: internal/store imports host: the arrow internal → host is not allowed, internal may import nothing else of this module; "},
		{"boards import boards", "board/rpi/a.go", nitrino("board", "host", "internal/store"), ""},
		{"a board imports a front-end", "board/rpi/a.go", nitrino("ipmi"), "board/rpi/a.go:4: board/rpi imports ipmi: the arrow board → ipmi"},
		{"test imports all", "test/a/a.go", nitrino("ipmi", "redfish", "cmds/x", "bmc"), ""},
		{"nobody imports test", "ipmi/a_test.go", nitrino("test/clients"), "ipmi/a_test.go:4: ipmi imports test/clients: the arrow ipmi → test"},
		{"the root package", "ipmi/a.go", imports(module), "ipmi/a.go:4: ipmi imports .: the arrow ipmi → ."},
		{"a module of a like name", "ipmi/a.go", imports(module + "x/redfish"), ""},
		{"a folder without a rule", "stuff/a.go", "package stuff\n", "stuff/a.go:1: folder stuff is in no rule"},
		{"the module's root", "a.go", "package nitrino\n", "a.go:1: folder . is in no rule"},

		{"cgo", "board/a.go", "package p\n\nimport \"C\"\n", "board/a.go:3: import \"C\": no cgo"},
		{"cgo in a file for another system", "board/a_windows.go", "package p\n\nimport \"C\"\n", "board/a_windows.go:3: import \"C\": no cgo"},
		{"reflection", "redfish/a.go", "package p\n\nimport r \"reflect\"\n", "redfish/a.go:3: import \"reflect\": no reflection"},
		{"reflection in a test", "redfish/a_test.go", imports("reflect"), ""},
		{"reflection in internal", "internal/x/a.go", imports("reflect"), ""},
		{"init", "ipmi/a.go", "package p\n\nfunc init() {}\n", "ipmi/a.go:3: func init: "},
		{"init in a test", "ipmi/a_test.go", "package p\n\nfunc init() {}\n", "ipmi/a_test.go:3: func init: "},
		{"a method init", "ipmi/a.go", "package p\n\ntype t int\n\nfunc (t) init() {}\n\nfunc initial() {}\n", ""},
		{"a shell", "uinit/a.go", "package p\n\nvar _ = exec.Command(\"sh\", \"-c\", \"reboot\")\n", "uinit/a.go:3: sh -c: no shell"},
		{"a shell with a context", "uinit/a.go", "package p\n\nvar _ = exec.CommandContext(ctx,\n\t\"/bin/bash\", \"-ec\", cmd)\n", "uinit/a.go:4: /bin/bash -ec: no shell"},
		{"busybox's shell", "uinit/a.go", "package p\n\nvar _ = exec.Command(\"busybox\", \"sh\", \"-c\", cmd)\n", "uinit/a.go:3: sh -c: no shell"},
		{"a shell in a list", "uinit/a.go", "package p\n\nvar _ = exec.Cmd{Args: []string{`ash`, `-c`, cmd}}\n", "uinit/a.go:3: ash -c: no shell"},
		{"a shell in a test", "ipmi/a_test.go", "package p\n\nvar _ = exec.Command(\"sh\", \"-c\", cmd)\n", "ipmi/a_test.go:3: sh -c: no shell"},
		{"other programs with -c", "uinit/a.go", "package p\n\nvar _ = exec.Command(\"ping\", \"-c\", \"1\", \"sh\")\n", ""},
		{"a shell's file", "uinit/a.go", "package p\n\nvar _ = exec.Command(\"sh\", \"--rcfile\", \"x\")\n", ""},

		{"testdata", "ipmi/testdata/a.go", "no Go at all", ""},
		{"hidden", ".ci/a.go", "no Go at all", ""},
		{"built", "build/linux/a.go", "no Go at all", ""},
		{"other files", "ipmi/a.txt", "no Go at all", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := Check(fstest.MapFS{tt.file: {Data: []byte(tt.text)}}, module, arrows)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(found) > 0:
				t.Errorf("got %v, want nothing", found)
			case tt.want != "" && (len(found) != 1 || !strings.HasPrefix(found[0].String(), tt.want)):
				t.Errorf("got %q, want one that begins with %q", found, tt.want)
			}
		})
	}
}

func TestCheckerSeesAll(t *testing.T) {
	found, err := Check(fstest.MapFS{
		"ipmi/a.go":      {Data: []byte("package p\n\nimport \"C\"\nimport \"" + module + "/web\"\n\nfunc init() {}\nfunc init() {}\n")},
		"web/a.go":       {Data: []byte("package p\n\nfunc init() {}\n")},
		"other/go.mod":   {Data: []byte("module other\n")},
		"other/sub/a.go": {Data: []byte("package p\n\nfunc init() {}\n")},
	}, module, arrows)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range found {
		where, _, _ := strings.Cut(v.String(), ": ")
		got = append(got, where)
	}
	if want := []string{"ipmi/a.go:3", "ipmi/a.go:4", "ipmi/a.go:6", "ipmi/a.go:7", "web/a.go:3"}; !slices.Equal(got, want) {
		t.Errorf("got violations at %q, want at %q", got, want)
	}
	if _, err := Check(fstest.MapFS{"ipmi/a.go": {Data: []byte("no Go")}}, module, arrows); err == nil || !strings.Contains(err.Error(), "ipmi/a.go") {
		t.Errorf("a file that is no Go: got %v, want an error that names it", err)
	}
}
