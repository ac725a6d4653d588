package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nitrino/nitrino/block"
)

// chunkOf is a chunk of a structured reply to the first call of a link.
func chunkOf(flags, kind uint16, parts ...any) []byte {
	var data []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			data = append(data, p...)
		case uint16:
			data = binary.BigEndian.AppendUint16(data, p)
		case uint32:
			data = binary.BigEndian.AppendUint32(data, p)
		case uint64:
			data = binary.BigEndian.AppendUint64(data, p)
		}
	}
	b := binary.BigEndian.AppendUint32(nil, structuredMagic)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, 1<<32)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func simpleOf(number uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, simpleMagic)
	b = binary.BigEndian.AppendUint32(b, number)
	return binary.BigEndian.AppendUint64(b, 1<<32)
}

// answer gives a link with one call what a server says, and returns how both end.
func answer(c *call, structured bool, in io.Reader) (got, ended error) {
	l := newLink(nil, export{structured: structured, allocation: true, context: 7, block: 1})
	l.enter(c, <-l.free)
	ended = l.receive(in)
	return <-c.done, ended
}

func TestAnswers(t *testing.T) {
	const at = 4096
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name       string
		command    uint16
		structured bool
		in         []byte
		want       error // of the call; errLost: the connection ends before
		data       string
	}{
		{"simple read", cmdRead, false, join(simpleOf(0), []byte(x(512))), nil, x(512)},
		{"simple error", cmdRead, false, simpleOf(errnoNoSpc), block.ErrNoSpace, ""},
		{"shutdown", cmdWrite, true, simpleOf(errnoShutdown), errLost, ""},
		{"simple write beside structured replies", cmdWrite, true, simpleOf(0), nil, ""},
		{"simple read beside structured replies", cmdRead, true, join(simpleOf(0), []byte(x(512))), errLost, ""},
		{"structured, not negotiated", cmdRead, false, chunkOf(1, chunkData, uint64(at), x(512)), errLost, ""},
		{"read", cmdRead, true, chunkOf(1, chunkData, uint64(at), x(512)), nil, x(512)},
		{"read in parts, the last first", cmdRead, true, join(
			chunkOf(0, chunkData, uint64(at+500), x(12)), chunkOf(0, chunkHole, uint64(at), uint32(300)),
			chunkOf(0, chunkData, uint64(at+300), x(200)), chunkOf(1, chunkNone)), nil, strings.Repeat("\x00", 300) + x(212)},
		{"a part missing", cmdRead, true, chunkOf(1, chunkData, uint64(at), x(511)), errLost, ""},
		{"a part twice", cmdRead, true, join(chunkOf(0, chunkData, uint64(at), x(256)), chunkOf(1, chunkData, uint64(at), x(256))), errLost, ""},
		{"outside", cmdRead, true, chunkOf(1, chunkData, uint64(at+1), x(512)), errLost, ""},
		{"far outside", cmdRead, true, chunkOf(1, chunkHole, uint64(1<<63+5), uint32(512)), errLost, ""},
		{"nothing", cmdRead, true, chunkOf(1, chunkNone), errLost, ""},
		{"an empty part", cmdRead, true, chunkOf(1, chunkData, uint64(at)), errLost, ""},
		{"another request", cmdRead, true, bytes.Replace(chunkOf(1, chunkNone), []byte{0, 0, 0, 1, 0, 0, 0, 0}, []byte{0, 0, 0, 1, 0, 0, 0, 9}, 1), errLost, ""},
		{"error", cmdRead, true, chunkOf(1, chunkError+1, uint32(errnoNoSpc), uint16(3), "why"), block.ErrNoSpace, ""},
		{"error with a place, then the end", cmdRead, true, join(
			chunkOf(0, chunkError+2, uint32(errnoNotSup), uint16(0), uint64(at)), chunkOf(1, chunkNone)), errors.ErrUnsupported, ""},
		{"two errors", cmdWrite, true, join(
			chunkOf(0, chunkError+1, uint32(errnoPerm), uint16(0)), chunkOf(1, chunkError+1, uint32(errnoNoSpc), uint16(0))), block.ErrReadOnly, ""},
		{"an unknown error", cmdRead, true, chunkOf(1, chunkError+99, uint32(errnoNoSpc), uint16(0)), block.ErrNoSpace, ""},
		{"an error without a number", cmdRead, true, chunkOf(1, chunkError+1, uint32(0), uint16(0)), errLost, ""},
		{"an error whose text is too long", cmdRead, true, chunkOf(1, chunkError+1, uint32(5), uint16(9), "x"), errLost, ""},
		{"data for a write", cmdWrite, true, chunkOf(1, chunkData, uint64(at), x(512)), errLost, ""},
		{"status", cmdBlockStatus, true, chunkOf(1, chunkBlockStatus, uint32(7), uint32(512), uint32(3)), nil, ""},
		{"status in another context", cmdBlockStatus, true, chunkOf(1, chunkBlockStatus, uint32(8), uint32(512), uint32(3)), errLost, ""},
		{"status of nothing", cmdBlockStatus, true, chunkOf(1, chunkBlockStatus, uint32(7), uint32(0), uint32(3)), errLost, ""},
		{"status of more than was asked", cmdBlockStatus, true, chunkOf(1, chunkBlockStatus, uint32(7), uint32(1024), uint32(3)), errLost, ""},
		{"no status", cmdBlockStatus, true, chunkOf(1, chunkNone), errLost, ""},
		{"status for a read", cmdRead, true, chunkOf(1, chunkBlockStatus, uint32(7), uint32(512), uint32(3)), errLost, ""},
		{"garbage", cmdRead, true, []byte("HTTP/1.1 200 OK\r\n\r\n"), errLost, ""},
	} {
		for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
			data := make([]byte, 512)
			c := newCall()
			c.command, c.offset, c.length = tt.command, at, 512
			c.bufs = [][]byte{data[:100], nil, data[100:]}
			got, ended := answer(c, tt.structured, wrap(bytes.NewReader(tt.in)))
			if !errors.Is(got, tt.want) {
				t.Errorf("%s: got %v, want %v; the connection ended with %v", tt.name, got, tt.want, ended)
			}
			if tt.want == nil && tt.command == cmdRead && string(data) != tt.data {
				t.Errorf("%s: other data", tt.name)
			}
			if tt.want == nil && tt.command == cmdBlockStatus && (c.whole != 512 || c.state != 3) {
				t.Errorf("%s: got %d bytes in state %d", tt.name, c.whole, c.state)
			}
		}
	}
}

// No answer makes a call wait for ever, succeed without its data, or take much memory.
func FuzzAnswer(f *testing.F) {
	f.Add(uint16(cmdRead), true, chunkOf(1, chunkData, uint64(0), strings.Repeat("x", 512)))
	f.Add(uint16(cmdRead), false, append(simpleOf(0), make([]byte, 512)...))
	f.Add(uint16(cmdRead), true, chunkOf(0, chunkHole, uint64(0), uint32(512)))
	f.Add(uint16(cmdWrite), true, chunkOf(1, chunkError+2, uint32(5), uint16(1), "x", uint64(0)))
	f.Add(uint16(cmdBlockStatus), false, simpleOf(0))
	f.Add(uint16(cmdBlockStatus), true, chunkOf(1, chunkBlockStatus, uint32(7), uint32(512), uint32(3)))
	f.Fuzz(func(t *testing.T, command uint16, structured bool, in []byte) {
		data := bytes.Repeat([]byte{0xee}, 512)
		c := newCall()
		c.command, c.length, c.bufs = command, 512, [][]byte{data}
		if got, _ := answer(c, structured, bytes.NewReader(in)); got != nil {
			return
		}
		if command == cmdRead && !bytes.Contains(in, []byte{0xee}) && bytes.Contains(data, []byte{0xee}) {
			t.Errorf("a read has what was in the buffer before")
		}
		if command == cmdBlockStatus && (c.whole <= 0 || c.whole > 512) {
			t.Errorf("a status of %d bytes", c.whole)
		}
	})
}

// A server may say anything in the handshake.
func FuzzHandshake(f *testing.F) {
	hello := binary.BigEndian.AppendUint64(nil, initMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, 3)
	answer := func(option, kind uint32, data string) []byte {
		b := binary.BigEndian.AppendUint64(nil, answerMagic)
		b = binary.BigEndian.AppendUint32(b, option)
		b = binary.BigEndian.AppendUint32(b, kind)
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		return append(b, data...)
	}
	f.Add(bytes.Join([][]byte{
		hello, answer(optStructuredReply, answerAck, ""),
		answer(optSetMetaContext, answerMetaContext, "\x00\x00\x00\x01base:allocation"), answer(optSetMetaContext, answerAck, ""),
		answer(optGo, answerInfo, "\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x01\x0d"),
		answer(optGo, answerInfo, "\x00\x03\x00\x00\x02\x00\x00\x00\x10\x00\x00\x01\x00\x00"), answer(optGo, answerAck, ""),
	}, nil))
	f.Add(bytes.Join([][]byte{hello, answer(optStructuredReply, answerErrUnsupported, ""), answer(optGo, answerErrUnsupported, "no")}, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		here, there := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() { _, _ = io.Copy(io.Discard, there) }) // until the client closes
		peer.Go(func() {
			_, _ = there.Write(in) // it may hang up first
			time.Sleep(time.Millisecond)
			_ = there.Close()
		})
		_, e, err := negotiate(t.Context(), here, place{host: "h", export: "x"}, &Options{})
		_ = here.Close()
		peer.Wait()
		if err == nil && (e.size < block.SectorSize || e.block <= 0 || e.size%e.block != 0 || e.payload < e.block || e.payload%block.SectorSize != 0) {
			t.Errorf("took %+v", e)
		}
	})
}
