//go:build e2e

package media

import (
	"bufio"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/nbd"
)

// bootableCD is an El Torito CD without emulation whose code writes text to
// COM1 ("El Torito" Bootable CD-ROM Format Specification 1.0, section 2).
func bootableCD(size int, text string) []byte {
	cd := pattern(size)
	clear(cd[16*2048 : 21*2048])
	copy(cd[16*2048:], "\x01CD001\x01")
	copy(cd[17*2048:], "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(cd[17*2048+0x47:], 19) // the catalog
	copy(cd[18*2048:], "\xffCD001\x01")
	catalog := cd[19*2048:]
	catalog[0], catalog[30], catalog[31] = 1, 0x55, 0xaa // validation entry
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(catalog[i:])
	}
	binary.LittleEndian.PutUint16(catalog[28:], -sum)
	catalog[32] = 0x88                             // bootable, no emulation
	binary.LittleEndian.PutUint16(catalog[38:], 4) // sectors of 512 bytes
	binary.LittleEndian.PutUint32(catalog[40:], 20)
	code := []byte{
		0x31, 0xc0, // 7c00 xor ax,ax
		0x8e, 0xd8, // 7c02 mov ds,ax
		0xfc,             // 7c04 cld
		0xbe, 0x14, 0x7c, // 7c05 mov si,text
		0xba, 0xf8, 0x03, // 7c08 mov dx,0x3f8
		0xac,       // 7c0b lodsb
		0x84, 0xc0, // 7c0c test al,al
		0x74, 0x03, // 7c0e jz 7c13
		0xee,       // 7c10 out dx,al
		0xeb, 0xf8, // 7c11 jmp 7c0b
		0xf4, // 7c13 hlt
	}
	copy(cd[20*2048:], append(append(code, text...), 0))
	return cd
}

// A PC boots from an image on a web server of which only little is fetched.
func TestQEMUBoots(t *testing.T) {
	const size, text = 256 << 20, "booted from the CD\r\n"
	r := newRig(t, 0)
	w := newWeb(t, 0)
	w.data = bootableCD(size, text)
	m := r.insert(r.cd, Source{Image: w.URL + "/install.iso"})

	server, err := nbd.New(nbd.Export{Name: "cd", Device: m, ReadOnly: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(ctx, l) }() // ends with ctx
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-m", "64",
		"-drive", "if=ide,media=cdrom,format=raw,readonly=on,file=nbd+unix:///cd?socket="+socket, "-serial", "stdio")
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	booted := false
	for lines := bufio.NewScanner(out); !booted && lines.Scan(); {
		booted = strings.Contains(lines.Text(), strings.TrimSpace(text))
	}
	fetched, requests := w.bytes.Load(), w.requests.Load()
	cancel()
	_ = qemu.Wait() // it was killed
	<-served
	if !booted {
		t.Fatal("the PC did not boot from the CD")
	}
	t.Logf("booted with %d of %d bytes, %d requests", fetched, size, requests)
	if fetched > 2<<20 {
		t.Errorf("%d bytes were fetched", fetched)
	}
	if err := r.cd.Eject(t.Context(), host.Origin{}); err != nil {
		t.Error(err)
	}
}
