package initramfs

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/image/kernel"
)

// ModulesFolder is where TestModules puts them: not where u-root's init loads
// modules from by itself.
const ModulesFolder = "lib/modules/nitrino-test"

// TestModules returns an archive, not compressed, with the kernel's modules: for
// an emulator to append to the initramfs of a card, which has none. Each name
// begins with a number, so that their order by name is the order to load them in.
func TestModules(k *kernel.Kernel) ([]byte, error) {
	var files []File
	for i, name := range k.Modules {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("test modules: %w", err)
		}
		files = append(files, File{
			Name: fmt.Sprintf("%s/%02d-%s", ModulesFolder, i, filepath.Base(name)),
			Mode: 0o644,
			Data: data,
		})
	}
	return Archive(files)
}
