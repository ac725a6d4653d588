//go:build e2e

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// copySector is a boot sector that copies blocks of the disk that it was booted from
// (INT 13h, functions 42h and 43h), and halts.
func copySector(from, to uint64, blocks byte) []byte {
	s := make([]byte, 512)
	copy(s, []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0x8e, 0xd0, // mov ss, ax
		0xbc, 0x00, 0x7c, // mov sp, 7c00h
		0xbe, 0x40, 0x7c, // mov si, 7c40h
		0xb4, 0x42, // mov ah, 42h: read; the drive is in dl
		0xcd, 0x13, // int 13h
		0x72, 0x08, // jc halt
		0xbe, 0x50, 0x7c, // mov si, 7c50h
		0xb8, 0x00, 0x43, // mov ax, 4300h: write
		0xcd, 0x13, // int 13h
		0xf4,       // halt: hlt
		0xeb, 0xfd, // jmp halt
	})
	for at, lba := range map[int]uint64{0x40: from, 0x50: to} { // disk address packets
		copy(s[at:], []byte{16, 0, blocks, 0, 0x00, 0x80, 0, 0}) // at 0000:8000h
		binary.LittleEndian.PutUint64(s[at+8:], lba)
	}
	s[510], s[511] = 0x55, 0xaa
	return s
}

// TestISCSIiPXE: iPXE in QEMU's network card logs in, with CHAP in both directions,
// and boots the disk; what it boots reads and writes by it.
func TestISCSIiPXE(t *testing.T) {
	const from, to, blocks = 100, 2000, 64
	boot := block.Credentials{User: "boot", Secret: "secret-of-a-host"}
	back := block.Credentials{User: "board", Secret: "secret-of-the-board"}
	_, d := rawFile(t, 8<<20)
	data := make([]byte, blocks*512)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	for at, b := range map[int64][]byte{0: copySector(from, to, blocks), from * 512: data} {
		if err := d.Writev([][]byte{b}, at); err != nil {
			t.Fatal(err)
		}
	}
	e := export(t, block.Target{CHAP: boot, Mutual: back}, newDisk(t, d, false))
	_, port, err := net.SplitHostPort(e.addr)
	if err != nil {
		t.Fatal(err)
	}
	tftp := t.TempDir()
	script := fmt.Sprintf("#!ipxe\nset username %s\nset password %s\nset reverse-username %s\nset reverse-password %s\nsanboot iscsi:10.0.2.2::%s:0:%s\n",
		boot.User, boot.Secret, back.User, back.Secret, port, e.target)
	if err := os.WriteFile(filepath.Join(tftp, "boot.ipxe"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var console lockedBuffer
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc", "-accel", "tcg", "-m", "128",
		"-netdev", "user,id=net,tftp="+tftp+",bootfile=boot.ipxe", "-device", "e1000,netdev=net,bootindex=1")
	qemu.Stdout, qemu.Stderr = &console, &console
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		qemu.Wait() // its error is the kill
	}()
	got := make([]byte, len(data))
	eventually(t, "the host copies its blocks", 90*time.Second, func() bool {
		if err := d.Readv([][]byte{got}, to*512); err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(got, data)
	})
	sessions := e.server.Sessions()
	if len(sessions) == 0 || sessions[0].User != boot.User {
		t.Errorf("got %+v, want a session of %s", sessions, boot.User)
	}
}
