package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// dependencies reads which other modules a module needs, by name, out of its
// section .modinfo: strings "key=value", each ended by a zero.
func dependencies(module io.ReaderAt) ([]string, error) {
	file, err := elf.NewFile(module)
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo: not a kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// moduleName is a module's name however it is written: in "depends" it has the
// hyphens of the file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// loadOrder sorts module files so that each comes after those that it needs,
// and otherwise by name. needs gives each file's dependencies.
func loadOrder(needs map[string][]string) ([]string, error) {
	files := map[string]string{}
	for file := range needs {
		files[moduleName(file)] = file
	}
	var order, path []string
	var visit func(file string) error
	visit = func(file string) error {
		if slices.Contains(order, file) {
			return nil
		}
		if slices.Contains(path, file) {
			return fmt.Errorf("modules need each other: %s", strings.Join(append(path, file), " → "))
		}
		path = append(path, file)
		for _, name := range needs[file] {
			other, ok := files[moduleName(name)]
			if !ok {
				return fmt.Errorf("module %s needs %s, which was not built", file, name)
			}
			if err := visit(other); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		order = append(order, file)
		return nil
	}
	all := make([]string, 0, len(needs))
	for file := range needs {
		all = append(all, file)
	}
	slices.Sort(all)
	for _, file := range all {
		if err := visit(file); err != nil {
			return nil, err
		}
	}
	return order, nil
}
