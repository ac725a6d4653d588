package scsi

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
)

// begin puts a write of one block into the task set.
func begin(t *testing.T, n *Nexus, a Attribute, lba uint32) *Command {
	t.Helper()
	c := &Command{CDB: cdb(code10(0x2a, 0, lba, 1)...), Attribute: a}
	if n.Begin(c) {
		t.Fatalf("Begin: %s", outcome(c))
	}
	c.Data = blocks(1, byte(lba))
	return c
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		queue []Attribute
		// steps: the commands that may run at first, and after the end of each of
		// these in turn.
		ends []int
		want [][]int
	}{
		{"simple ones", []Attribute{Simple, Untagged, Simple}, []int{1}, [][]int{{0, 1, 2}, {0, 2}}},
		{"ordered in the middle", []Attribute{Simple, Ordered, Simple}, []int{0, 1}, [][]int{{0}, {1}, {2}}},
		{"two ordered", []Attribute{Ordered, Ordered, Simple}, []int{0, 1}, [][]int{{0}, {1}, {2}}},
		{"a head of the queue", []Attribute{Simple, Ordered, HeadOfQueue, Simple}, []int{0, 2, 1}, [][]int{{0, 2}, {2}, {1}, {3}}},
		{"heads of the queue", []Attribute{HeadOfQueue, HeadOfQueue, Simple}, []int{0, 1}, [][]int{{0, 1}, {1}, {2}}},
	} {
		b := newRig(t, block.Identity{}, nil)
		n := b.connect("iqn.a")
		var all []*Command
		for i, a := range tt.queue {
			all = append(all, begin(t, n, a, uint32(i)))
		}
		ended := make([]bool, len(all))
		enabled := func() (is []int) {
			for i, c := range all {
				if !ended[i] && c.enabled() {
					is = append(is, i)
				}
			}
			return is
		}
		for i := range tt.want {
			if got := enabled(); !slices.Equal(got, tt.want[i]) {
				t.Errorf("%s, step %d: got %d enabled, want %d", tt.name, i, got, tt.want[i])
			}
			if i < len(tt.ends) {
				ended[tt.ends[i]] = true
				n.End(all[tt.ends[i]])
			}
		}
		for i, c := range all {
			if !ended[i] {
				n.End(c)
			}
		}
		if u := &b.unit.tasks; u.first != nil || u.last != nil || u.barriers != 0 || u.dormant != 0 {
			t.Errorf("%s: the empty task set has %d barriers, %d dormant", tt.name, u.barriers, u.dormant)
		}
	}
}

func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, block.Identity{}, nil)
		b.memory.stall, b.memory.stalled = make(chan struct{}), make(chan struct{}, 9)
		n := b.connect("iqn.a")
		running, waiting, fresh := begin(t, n, Simple, 1), begin(t, n, Ordered, 2), begin(t, n, Ordered, 3)
		for _, c := range []*Command{running, waiting} {
			go func() {
				n.Execute(c)
				n.End(c)
			}()
		}
		synctest.Wait()
		// What waits for its turn ends at once, and never happens.
		<-n.Abort(waiting)
		if waiting.Status != StatusTaskAborted || !waiting.Aborted() {
			t.Errorf("a waiting command: got %s", outcome(waiting))
		}
		ended := n.Abort(running)
		select {
		case <-ended:
			t.Error("a running command has ended before its write")
		case <-time.After(time.Minute):
		}
		b.memory.stall <- struct{}{}
		<-ended
		n.Abort(fresh)
		if !n.Try(fresh) {
			n.Execute(fresh)
		}
		n.End(fresh)
		if got := outcome(fresh); got != "aborted" {
			t.Errorf("a command that was aborted before it ran: got %s", got)
		}
		<-n.Abort(fresh) // ended long ago
		if b.memory.data[512] != 1 || b.memory.data[1024] != 0 || b.memory.data[1536] != 0 {
			t.Error("an aborted write landed")
		}
	})
}

func TestManage(t *testing.T) {
	for _, tt := range []struct {
		f         Function
		other     bool   // ends the other's command too
		attention string // of the other
		own       string
	}{
		{AbortTaskSet, false, "good", "good"},
		{ClearTaskSet, true, "6/2f00", "good"},
		{LogicalUnitReset, true, "6/2903", "6/2903"},
		{TargetWarmReset, true, "6/2902", "6/2902"},
		{TargetColdReset, true, "6/2900", "6/2900"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newRig(t, block.Identity{}, nil)
			b.memory.stall, b.memory.stalled = make(chan struct{}), make(chan struct{}, 9)
			n := b.connect("iqn.a")
			var told []*Command
			m := b.target.Connect("iqn.b,i,0x000000000002", func(c *Command) { told = append(told, c) })
			expect(t, "the first command", do(m, []byte{0}, nil), "6/2900")
			mine, theirs, idle := begin(t, n, Simple, 1), begin(t, m, Simple, 2), begin(t, m, Simple, 3)
			for c, x := range map[*Command]*Nexus{mine: n, theirs: m} {
				go func() {
					x.Execute(c)
					x.End(c)
				}()
			}
			synctest.Wait()
			answered := make(chan Response)
			go func() {
				r, ends := n.Manage(tt.f, 0)
				if err := ends.Wait(t.Context()); err != nil {
					t.Errorf("function %d: %v", tt.f, err)
				}
				answered <- r
			}()
			synctest.Wait()
			select {
			case <-answered:
				t.Errorf("function %d has answered while a write is under way", tt.f)
			default:
			}
			if want := []*Command{theirs, idle}; tt.other != slices.Equal(told, want) || !tt.other && len(told) != 0 {
				t.Errorf("function %d: the other nexus was told of %d commands", tt.f, len(told))
			}
			close(b.memory.stall)
			if tt.other { // as the transport does that waits for the data no longer
				n := idle.nexus
				n.End(idle)
			}
			if r := <-answered; r != FunctionComplete {
				t.Errorf("function %d: got response %d", tt.f, r)
			}
			if !tt.other {
				m.End(idle)
			}
			synctest.Wait()
			if mine.Aborted() != true || theirs.Aborted() != tt.other {
				t.Errorf("function %d: aborted %t, %t", tt.f, mine.Aborted(), theirs.Aborted())
			}
			expect(t, "the other", do(m, []byte{0}, nil), tt.attention)
			expect(t, "the own", do(n, []byte{0}, nil), tt.own)
			expect(t, "the other again", do(m, []byte{0}, nil), "good")
		})
	}
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	for _, tt := range []struct {
		f    Function
		lun  uint64
		want Response
	}{{ClearACA, 0, NotSupported}, {8, 0, NotSupported}, {LogicalUnitReset, 5 << 48, LUNDoesNotExist}, {TargetWarmReset, 5 << 48, FunctionComplete}} {
		if r, ends := n.Manage(tt.f, tt.lun); r != tt.want || len(ends) != 0 {
			t.Errorf("function %d, LUN %#x: got %d, %d commands, want %d", tt.f, tt.lun, r, len(ends), tt.want)
		}
	}
	expect(t, "after a reset", do(n, []byte{0}, nil), "6/2902")
	c := begin(t, n, Simple, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, ends := n.Manage(AbortTaskSet, 0)
	later := begin(t, n, Simple, 2)
	if err := ends.Wait(ctx); err == nil {
		t.Error("a function whose command does not end: no error")
	}
	n.End(c)
	if err := ends.Wait(t.Context()); err != nil || later.Aborted() {
		t.Errorf("after its end: %v; a command that began later is aborted: %t", err, later.Aborted())
	}
	n.End(later)
}

// A unit that is taken away ends its commands first.
func TestSetUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, block.Identity{}, nil)
		var n *Nexus
		aborted := make(chan *Command, 1)
		n = b.target.Connect("iqn.a,i,0x000000000001", func(c *Command) { aborted <- c })
		expect(t, "the first command", do(n, []byte{0}, nil), "6/2900")
		begin(t, n, Simple, 1)
		gone := make(chan struct{})
		go func() {
			ends := b.target.SetUnits(map[uint16]*Unit{1: b.unit})
			given, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := ends.Wait(given); err == nil {
				t.Error("a command that does not end: no error")
			}
			if err := ends.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			close(gone)
		}()
		time.Sleep(2 * time.Second)
		select {
		case <-gone:
			t.Error("the endings are there before the command ended")
		default:
		}
		n.End(<-aborted)
		<-gone
		expect(t, "the LUN that was", do(n, []byte{0}, nil), "5/2500")
		expect(t, "the new one", doLUN(n, 1<<48, []byte{0}, nil), "6/2900")
		expect(t, "its second attention", doLUN(n, 1<<48, []byte{0}, nil), "6/3f0e")
		b.target.SetUnits(map[uint16]*Unit{1: b.unit, 2: b.unit})
		do(n, []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, nil) // REPORT LUNS
		expect(t, "after REPORT LUNS", doLUN(n, 1<<48, []byte{0}, nil), "good")
		n.Close()
		expect(t, "after Close", doLUN(n, 1<<48, []byte{0}, nil), "5/2500")
	})
}

func TestAttention(t *testing.T) {
	var q attentions
	for _, code := range []uint16{codeModeChanged, codeUnitsChanged, codeModeChanged, codeDeviceReset, codePowerOn, codeBusReset} {
		q.add(code)
	}
	if want := (attentions{codePowerOn, codeModeChanged, codeUnitsChanged}); !slices.Equal(q, want) {
		t.Errorf("got %x, want %x", q, want)
	}
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	if err := b.disk.Resize(testBlocks * 1024); err != nil {
		t.Fatal(err)
	}
	expect(t, "INQUIRY", do(n, []byte{0x12, 0, 0, 0, 36}, nil), "good")
	expect(t, "resized", do(n, code10(0x28, 0, 0, 1), nil), "6/2a09")
	c := do(n, []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil)
	if !bytes.Equal(c.Data, []byte{0, 0, 0x1f, 0xff, 0, 0, 2, 0}) {
		t.Errorf("READ CAPACITY after the resize: got %x", c.Data)
	}
	err := b.disk.Exchange(func(d block.Device) (block.Device, bool, error) { return d, true, nil })
	if err != nil {
		t.Fatal(err)
	}
	c = do(n, []byte{0x03, 0, 0, 0, 18}, nil)
	if c.Data[2] != 6 || c.Data[12] != 0x28 {
		t.Errorf("REQUEST SENSE: got %x, want 6/2800", c.Data)
	}
	expect(t, "after REQUEST SENSE", do(n, []byte{0}, nil), "good")
}

// Many nexuses at once, with all that may be in each other's way.
func TestCrowd(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	var wg sync.WaitGroup
	for i := range 4 {
		n := b.target.Connect("iqn.a,i,0x00000000000"+string(rune('1'+i)), func(*Command) {})
		wg.Go(func() {
			defer n.Close()
			for round := range 200 {
				do(n, code10(0x2a, 0, uint32(round), 1), blocks(1, byte(i)))
				do(n, code10(0x28, 0, uint32(round), 8), nil)
				o := &Command{CDB: cdb(code16(0x8b, 0, uint64(round), 1)...), Attribute: Ordered}
				carry(n, o, blocks(1, 1))
				switch round % 50 {
				case 10:
					out(n, 6, 0, 0, uint64(i+1), 0)
					out(n, 1, 5, uint64(i+1), 0, 0)
				case 20:
					for other := range 4 {
						out(n, 5, 5, uint64(i+1), uint64(other+1), 0)
					}
				case 30:
					out(n, 3, 0, uint64(i+1), 0, 0)
				case 40:
					if _, ends := n.Manage(LogicalUnitReset, 0); ends.Wait(t.Context()) != nil {
						t.Error("the reset does not end")
					}
				}
			}
		})
	}
	wg.Wait()
	if u := &b.unit.tasks; u.first != nil || u.dormant != 0 || u.barriers != 0 || len(b.unit.links) != 0 {
		t.Error("something is left over")
	}
}
