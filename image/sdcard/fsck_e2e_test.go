//go:build e2e

package sdcard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/diskfs/go-diskfs/partition/mbr"
)

// TestFsck has the file systems' own tools look at a card.
func TestFsck(t *testing.T) {
	card := build(t, contents())
	for n, p := range partitions() {
		tool := []string{"/sbin/fsck.fat", "-n", "-v"}
		switch p.kind {
		case mbr.Empty:
			continue // none has the number 0
		case mbr.Linux:
			tool = []string{"/sbin/e2fsck", "-f", "-n"}
		}
		path := filepath.Join(t.TempDir(), fmt.Sprintf("p%d", n))
		if out, err := exec.Command("dd", "if="+card.Name(), "of="+path, "bs=1M", "conv=sparse",
			fmt.Sprintf("skip=%d", p.start/mib), fmt.Sprintf("count=%d", p.size/mib)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// dd leaves a hole at the end out.
		if err := os.Truncate(path, p.size); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool[0], append(tool[1:], path)...).CombinedOutput()
		if err != nil {
			t.Errorf("partition %d: %v: %s", n, err, out)
		}
	}
}
