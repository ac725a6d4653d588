// Hello takes the place of uinit in a test: it says what it is and where it is,
// loads the modules for tests, and switches the machine off.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var version, built string

func main() {
	fmt.Printf("hello: version %s, built %s, parent %d\n", version, built, os.Getppid())
	var found []string
	for _, folder := range []string{"/", "/bin", "/bbin", "/lib/modules/nitrino-test"} {
		names, err := filepath.Glob(folder + "/*")
		if err != nil {
			fmt.Println("hello:", err)
		}
		found = append(found, names...)
	}
	fmt.Println("hello: files", strings.Join(found, " "))
	modules, err := filepath.Glob("/lib/modules/nitrino-test/*.ko")
	if err != nil {
		fmt.Println("hello:", err)
	}
	slices.Sort(modules)
	for _, m := range modules {
		fmt.Printf("hello: %s: %v\n", filepath.Base(m), load(m))
	}
	unix.Sync()
	fmt.Println("hello: end", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
