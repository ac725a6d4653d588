package iscsi

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

// FuzzConnection sends anything at all after a login: no fault is found, the session
// ends with its connection, and another one goes on.
func FuzzConnection(f *testing.F) {
	b := newBed(f, true, Options{Memory: 1 << 20})
	witness := b.login(f, 200, nil).ready()
	i := &initiator{t: f, cmdSN: 100, expStatSN: 2}
	seed := func(digests bool, pdus ...[]byte) {
		var all []byte
		for _, p := range pdus {
			all = append(all, p...)
		}
		f.Add(digests, all)
		i.cmdSN = 100
	}
	command := func(flags byte, cdb []byte, expected int, data []byte) []byte {
		h := i.request(pdu.OpSCSICommand, flags|1)
		binary.BigEndian.PutUint32(h[20:], uint32(expected))
		copy(h[32:], cdb)
		return i.encode(h, nil, data)
	}
	for _, digests := range []bool{false, true} {
		i.header, i.data = digests, digests
		seed(digests, command(final, make([]byte, 6), 0, nil), command(final|reads, rw(false, 0, 8), 4096, nil))
		seed(digests, command(final, make([]byte, 6), 0, nil), command(final|wants, rw(true, 0, 8), 4096, make([]byte, 4096)))
		seed(digests, command(final, make([]byte, 6), 0, nil), command(wants, rw(true, 0, 8), 4096, nil),
			i.encode(dataOut(i.itt, pdu.NoTag, 0, 0, true), nil, make([]byte, 4096)))
		seed(digests, command(final, make([]byte, 6), 0, nil), command(final|wants, rw(true, 0, 2048), 1<<20, nil),
			i.encode(dataOut(i.itt, 1, 0, 0, false), nil, make([]byte, 8192)))
		for _, op := range []pdu.Opcode{pdu.OpNOPOut, pdu.OpText, pdu.OpLogout, pdu.OpSNACK, pdu.OpLogin, 0x1c} {
			seed(digests, i.encode(i.request(op, final), nil, []byte("SendTargets=\x00")))
		}
		for function := range 9 {
			seed(digests, command(final|wants, rw(true, 0, 8), 4096, nil), i.encode(i.request(pdu.OpTaskManagement, final|byte(function)), nil, nil))
		}
		both := i.request(pdu.OpSCSICommand, final|reads|wants)
		seed(digests, i.encode(both, []byte{0, 5, 2, 0, 0, 0, 16, 0}, nil))
		seed(digests, i.encode(both, []byte{0, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil))
	}
	isid := byte(0)
	f.Fuzz(func(t *testing.T, digests bool, input []byte) {
		w := words{}
		if digests {
			w["HeaderDigest"], w["DataDigest"] = "CRC32C", "CRC32C"
		}
		isid = (isid + 1) % 8
		i := b.login(t, isid, w) // the one before with this ISID has to end for it
		if _, err := i.conn.Write(input); err != nil {
			t.Log(err) // the target was first
		}
		if err := i.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Log(err)
		}
		if _, err := io.Copy(io.Discard, i.conn); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatal("the connection does not end")
			}
		}
		i.conn.Close()
		witness.t = t
		h := witness.request(pdu.OpNOPOut, final)
		if _, err := witness.conn.Write(witness.encode(h, nil, nil)); err != nil {
			t.Log(err)
		}
		if a, err := witness.read(); err != nil { // a TARGET COLD RESET ends all
			witness = b.login(t, 200, nil)
		} else if a.h.ITT() != h.ITT() {
			t.Fatalf("another session got %v", a)
		}
		if err := witness.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.events {
			if strings.HasPrefix(e, "iscsi.panic") {
				t.Fatal(e)
			}
		}
		b.events = b.events[:0]
	})
}
