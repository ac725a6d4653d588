package iscsi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

func pattern(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// TestReadWrite writes and reads back, in all ways that can be negotiated.
func TestReadWrite(t *testing.T) {
	for _, prompt := range []bool{true, false} {
		b := newBed(t, prompt, Options{})
		for n, tt := range []struct {
			digests, unasked, immediate string
			segment, first, burst, asks int
		}{
			{"None", "No", "Yes", 262144, 262144, 1 << 20, 8},
			{"CRC32C", "No", "Yes", 262144, 262144, 1 << 20, 8},
			{"CRC32C,None", "Yes", "Yes", 8192, 65536, 262144, 1},
			{"None", "Yes", "No", 8192, 65536, 262144, 1}, // iPXE
			{"CRC32C", "No", "No", 1000, 3000, 5000, 3},
			{"None", "No", "Yes", 512, 1024, 2048, 2},
		} {
			t.Run(fmt.Sprintf("prompt=%v/%d", prompt, n), func(t *testing.T) {
				i := b.login(t, byte(n), words{
					"HeaderDigest": tt.digests, "DataDigest": tt.digests, "InitialR2T": tt.unasked, "ImmediateData": tt.immediate,
					"MaxRecvDataSegmentLength": strconv.Itoa(tt.segment), "FirstBurstLength": strconv.Itoa(tt.first),
					"MaxBurstLength": strconv.Itoa(tt.burst), "MaxOutstandingR2T": strconv.Itoa(tt.asks),
				})
				i.header, i.data = tt.digests[0] == 'C', tt.digests[0] == 'C'
				i.ready()
				for lba, size := range []int{512, 4096, 65536, 131072, 262144, 300 * 512, 1 << 20, 3 << 20} {
					data := pattern(size, uint64(size))
					var now, more []byte
					if tt.immediate == "Yes" {
						now = data[:min(size, tt.first, 262144)]
					}
					flags := byte(wants | final)
					if tt.unasked == "No" && len(now) < min(tt.first, size) {
						more = data[len(now):min(tt.first, size)]
						flags = wants
					}
					itt := i.command(flags, rw(true, lba, size/512), size, now)
					if more != nil {
						i.burst(itt, pdu.NoTag, len(now), more, 4000)
					}
					a := i.obey(itt, data, 10000)
					if a.op() != pdu.OpSCSIResponse || a.h[3] != scsi.StatusGood || binary.BigEndian.Uint32(a.h[44:]) != 0 {
						t.Fatalf("writing %d bytes: %v", size, a)
					}
					if !bytes.Equal(b.disk.content(lba*512, size), data) {
						t.Fatalf("%d bytes came wrongly to the disk", size)
					}
					if !bytes.Equal(i.readBack(lba, size), data) {
						t.Fatalf("%d bytes came wrongly from the disk", size)
					}
				}
			})
		}
	}
}

// TestDepth has many commands under way, of which the answers come in any order.
func TestDepth(t *testing.T) {
	for _, prompt := range []bool{true, false} {
		t.Run(fmt.Sprintf("prompt=%v", prompt), func(t *testing.T) {
			b := newBed(t, prompt, Options{})
			i := b.login(t, 1, words{"DataDigest": "CRC32C"}).ready()
			want := pattern(100*4096, 5)
			b.disk.mu.Lock()
			copy(b.disk.data, want)
			b.disk.mu.Unlock()
			var all []byte
			first := i.itt + 1
			for n := range 100 {
				h := i.request(pdu.OpSCSICommand, final|reads|1)
				binary.BigEndian.PutUint32(h[20:], 4096)
				copy(h[32:], rw(false, n*8, 8))
				all = append(all, i.encode(h, nil, nil)...)
			}
			if _, err := i.conn.Write(all); err != nil {
				t.Fatal(err)
			}
			for range 100 {
				a := i.want(pdu.OpDataIn)
				if n := int(a.h.ITT() - first); !bytes.Equal(a.data, want[n*4096:][:4096]) {
					t.Fatalf("read %d came wrongly", n)
				}
			}
		})
	}
}

func TestResiduals(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	for _, tt := range []struct {
		name             string
		flags            byte
		cdb              []byte
		expected, send   int
		overflow         bool
		residual, gotten int
	}{
		{"read exactly", final | reads, rw(false, 0, 2), 1024, 0, false, 0, 1024},
		{"read wants more", final | reads, rw(false, 0, 2), 4000, 0, false, 2976, 1024},
		{"read wants less", final | reads, rw(false, 0, 2), 700, 0, true, 324, 700},
		{"read wants nothing", final, rw(false, 0, 2), 0, 0, true, 1024, 0},
		{"write exactly", final | wants, rw(true, 0, 2), 1024, 1024, false, 0, 0},
		{"write has more", final | wants, rw(true, 0, 2), 2048, 2048, false, 1024, 0},
		{"write has less", final | wants, rw(true, 0, 2), 512, 512, true, 512, 0},
		{"write has nothing", final, rw(true, 0, 2), 0, 0, true, 1024, 0},
		{"no data at all", final | reads, make([]byte, 6), 100, 0, false, 100, 0},
		{"inquiry", final | reads, []byte{0x12, 0, 0, 0, 36, 0}, 255, 0, false, 219, 36},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i.t = t
			itt := i.command(tt.flags, tt.cdb, tt.expected, make([]byte, tt.send))
			a := i.next()
			if a.h.ITT() != itt || a.h[3] != scsi.StatusGood || len(a.data) != tt.gotten {
				t.Fatalf("got %v with %d bytes, want GOOD with %d", a, len(a.data), tt.gotten)
			}
			over, under := a.h[1]&4 != 0, a.h[1]&2 != 0
			if n := int(binary.BigEndian.Uint32(a.h[44:])); over != tt.overflow || under != (!tt.overflow && tt.residual > 0) || n != tt.residual {
				t.Errorf("got overflow %v, underflow %v, residual %d; want overflow %v, residual %d", over, under, n, tt.overflow, tt.residual)
			}
		})
	}
}

// TestDataOutFaults breaks the rules for Data-Out one by one: the command fails, and
// the next one does not.
func TestDataOutFaults(t *testing.T) {
	crc, amount, unexpected := [3]byte{0x0b, 0x47, 5}, [3]byte{0x0b, 0x0c, 0x0d}, [3]byte{0x0b, 0x0c, 0x0c}
	const size = 4096
	data := pattern(size, 1)
	half := data[:size/2]
	for _, tt := range []struct {
		name string
		w    words
		send func(i *initiator) (itt uint32)
		want [3]byte
	}{
		{"DataSN begins at 1", nil, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 1, 0, true, data)
			return itt
		}, crc},
		{"DataSN twice", nil, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 0, 0, false, half)
			i.dataOut(itt, pdu.NoTag, 0, size/2, true, half)
			return itt
		}, crc},
		{"in the wrong order", nil, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 1, size/2, false, half)
			i.dataOut(itt, pdu.NoTag, 0, 0, true, half)
			return itt
		}, crc},
		{"a gap", nil, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 0, 512, true, data[512:])
			return itt
		}, crc},
		{"an offset outside", nil, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 0, 1<<31, true, data)
			return itt
		}, crc},
		{"more than asked for", words{"InitialR2T": "Yes"}, func(i *initiator) uint32 {
			itt := i.command(final|wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, i.asked(), 0, 0, true, make([]byte, size+512))
			return itt
		}, amount},
		{"less than asked for", words{"InitialR2T": "Yes"}, func(i *initiator) uint32 {
			itt := i.command(final|wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, i.asked(), 0, 0, true, half)
			return itt
		}, amount},
		{"no F bit at the end", words{"InitialR2T": "Yes"}, func(i *initiator) uint32 {
			itt := i.command(final|wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, i.asked(), 0, 0, false, data)
			return itt
		}, amount},
		{"more than the first burst", words{"FirstBurstLength": "2048"}, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			i.dataOut(itt, pdu.NoTag, 0, 0, true, data)
			return itt
		}, amount},
		{"more at once than the first burst", words{"FirstBurstLength": "2048"}, func(i *initiator) uint32 {
			return i.command(final|wants, rw(true, 0, 8), size, data)
		}, amount},
		{"immediate data against the rules", words{"ImmediateData": "No"}, func(i *initiator) uint32 {
			return i.command(final|wants, rw(true, 0, 8), size, data)
		}, unexpected},
		{"unasked against the rules", words{"InitialR2T": "Yes"}, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, half)
			i.dataOut(itt, pdu.NoTag, 0, size/2, true, half)
			return itt
		}, unexpected},
		{"a wrong digest", words{"DataDigest": "CRC32C"}, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 8), size, nil)
			b := i.encode(dataOut(itt, pdu.NoTag, 0, 0, true), nil, data)
			b[100] ^= 1
			if _, err := i.conn.Write(b); err != nil {
				i.t.Fatal(err)
			}
			if a := i.want(pdu.OpReject); a.h[2] != byte(pdu.ReasonDataDigest) {
				i.t.Fatalf("reject reason %#x", a.h[2])
			}
			return itt
		}, crc},
		{"a wrong digest of much", words{"DataDigest": "CRC32C"}, func(i *initiator) uint32 {
			itt := i.command(wants, rw(true, 0, 256), 131072, nil)
			b := i.encode(dataOut(itt, pdu.NoTag, 0, 0, true), nil, make([]byte, 131072))
			b[len(b)-1] ^= 1
			if _, err := i.conn.Write(b); err != nil {
				i.t.Fatal(err)
			}
			i.want(pdu.OpReject)
			return itt
		}, crc},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, tt.w).ready()
			itt := tt.send(i)
			if got := i.sense(itt); got != tt.want {
				t.Errorf("got sense %x, want %x", got, tt.want)
			}
			if !bytes.Equal(b.disk.content(0, size), make([]byte, size)) {
				t.Error("something was written")
			}
			i.ready()
		})
	}
}

// TestStrayData sends data for nothing: it is dropped.
func TestStrayData(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, words{"InitialR2T": "Yes", "DataDigest": "CRC32C"}).ready()
	i.dataOut(7777, pdu.NoTag, 0, 0, true, make([]byte, 4096))
	i.dataOut(7777, 5, 0, 0, true, make([]byte, 200000))
	itt := i.command(final|wants, rw(true, 0, 1), 512, nil)
	ttt := i.asked()
	i.dataOut(itt, ttt+1, 0, 0, true, make([]byte, 512)) // not what was asked for
	i.dataOut(itt, ttt, 0, 0, true, pattern(512, 1))
	i.good(itt)
	if !bytes.Equal(b.disk.content(0, 512), pattern(512, 1)) {
		t.Error("the wrong data was written")
	}
}

// TestAnsweredEarly is a write that fails before its data has come: the answer waits
// for the data, which belongs to nothing else.
func TestAnsweredEarly(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	itt := i.command(wants, rw(true, 1<<40, 8), 4096, nil) // outside of the disk
	i.dataOut(itt, pdu.NoTag, 0, 0, false, make([]byte, 2048))
	i.dataOut(itt, pdu.NoTag, 1, 2048, true, make([]byte, 2048))
	if got, want := i.sense(itt), [3]byte{5, 0x21, 0}; got != want {
		t.Errorf("got sense %x, want %x", got, want)
	}
	itt = i.command(wants|final, rw(true, 1<<40, 256), 131072, make([]byte, 131072))
	i.sense(itt)
	i.ready()
}

// TestNoBlocks writes nothing, with data and without.
func TestNoBlocks(t *testing.T) {
	for _, prompt := range []bool{true, false} {
		b := newBed(t, prompt, Options{})
		i := b.login(t, 1, nil).ready()
		i.good(i.command(final|wants, rw(true, 0, 0), 512, make([]byte, 512)))
		i.good(i.command(final|wants, rw(true, 0, 0), 0, nil))
		itt := i.command(wants, rw(true, 0, 0), 1024, make([]byte, 512))
		i.dataOut(itt, pdu.NoTag, 0, 512, true, make([]byte, 512))
		i.good(itt)
		i.good(i.command(final|wants, rw(false, 0, 1), 512, make([]byte, 512))) // a read, which gets data instead
		i.ready()
	}
}

// TestScarce has more writes under way than there is memory for.
func TestScarce(t *testing.T) {
	for _, first := range []string{"512", "65536"} {
		t.Run("FirstBurstLength="+first, func(t *testing.T) {
			b := newBed(t, false, Options{Memory: 1 << 20})
			i := b.login(t, 1, words{"FirstBurstLength": first, "MaxOutstandingR2T": "1"}).ready()
			const size, count = 128 << 10, 40
			data := pattern(size*count, 3)
			at := map[uint32]int{}
			now, _ := strconv.Atoi(first)
			var waiting []int
			for n := range count {
				waiting = append(waiting, n*size)
			}
			again := 0
			for done := 0; done < count; {
				for len(waiting) > 0 && !pdu.Before(i.maxCmdSN, i.cmdSN) {
					from := waiting[0]
					waiting = waiting[1:]
					at[i.command(final|wants, rw(true, from/512, size/512), size, data[from:][:now])] = from
				}
				a := i.next()
				from := at[a.h.ITT()]
				switch {
				case a.op() == pdu.OpR2T:
					offset, n := int(binary.BigEndian.Uint32(a.h[40:])), int(binary.BigEndian.Uint32(a.h[44:]))
					i.burst(a.h.ITT(), a.h.TTT(), offset, data[from+offset:][:n], 50000)
				case a.h[3] == scsi.StatusTaskSetFull:
					again++
					waiting = append(waiting, from)
				case a.h[3] == scsi.StatusGood:
					done++
				default:
					t.Fatalf("got %v", a)
				}
			}
			t.Logf("%d commands had to be sent again", again)
			if !bytes.Equal(b.disk.content(0, size*count), data) {
				t.Error("the data came wrongly to the disk")
			}
		})
	}
}

// TestAskAhead: the rest is asked for while the immediate data is still on its way.
func TestAskAhead(t *testing.T) {
	const immediate, size = 128 << 10, 512 << 10
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	data := pattern(size, 1)
	h := i.request(pdu.OpSCSICommand, final|wants|1)
	binary.BigEndian.PutUint32(h[20:], size)
	copy(h[32:], rw(true, 8, size/512))
	wire := i.encode(h, nil, data[:immediate])
	if _, err := i.conn.Write(wire[:immediate/2]); err != nil {
		t.Fatal(err)
	}
	a := i.want(pdu.OpR2T)
	if offset, n := binary.BigEndian.Uint32(a.h[40:]), binary.BigEndian.Uint32(a.h[44:]); offset != immediate || n != size-immediate {
		t.Errorf("asked for %d bytes at %d, want %d at %d", n, offset, size-immediate, immediate)
	}
	if _, err := i.conn.Write(wire[immediate/2:]); err != nil {
		t.Fatal(err)
	}
	i.burst(h.ITT(), a.h.TTT(), immediate, data[immediate:], maxSegment)
	i.good(h.ITT())
	if !bytes.Equal(b.disk.content(8*512, size), data) {
		t.Error("the data is not on the disk")
	}
}
