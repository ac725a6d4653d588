package card

import (
	"bytes"
	"strings"
	"testing"
)

func TestAutoboot(t *testing.T) {
	for _, want := range []Autoboot{{2, 3}, {3, 2}} {
		text := want.Encode()
		if len(text) != AutobootSize || text[len(text)-1] != '\n' {
			t.Errorf("%+v: got %d bytes that end in %q, want %d that end in a newline", want, len(text), text[len(text)-1], AutobootSize)
		}
		got, err := ParseAutoboot(text)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestParseAutoboot(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Autoboot
		err        string
	}{
		{"as the documentation has it", "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n", Autoboot{2, 3}, ""},
		{"without filters", "boot_partition=2", Autoboot{2, 2}, ""},
		{"of Windows", "[all]\r\nboot_partition=3\r\n[tryboot]\r\nboot_partition=2\r\n", Autoboot{3, 2}, ""},
		{"the last counts", "boot_partition=2\nboot_partition=3\n", Autoboot{3, 3}, ""},
		{"a filter it does not know", "boot_partition=2\n[pi5]\nboot_partition=3\n", Autoboot{2, 2}, ""},
		{"a comment", "boot_partition=2\n#boot_partition=3\n", Autoboot{2, 2}, ""},
		{"zeros behind", "boot_partition=2\n\x00\x00\x00", Autoboot{2, 2}, ""},
		{"empty", "", Autoboot{}, "no boot_partition"},
		{"of zeros", "\x00\x00", Autoboot{}, "no boot_partition"},
		{"only a trial", "[tryboot]\nboot_partition=3\n", Autoboot{}, "no boot_partition"},
		{"no number", "boot_partition=two\n", Autoboot{}, `boot_partition "two"`},
		{"a partition that cannot be", "boot_partition=64\n", Autoboot{}, `boot_partition "64"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseAutoboot([]byte(tt.text))
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %+v, %v, want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	for _, p := range []int{SlotA, SlotB} {
		if got := SlotPartition(SlotName(p)); got != p {
			t.Errorf("partition %d: got %d back", p, got)
		}
		if other := OtherSlot(p); other == p || OtherSlot(other) != p || SlotName(other) == "" {
			t.Errorf("partition %d: got %d as the other slot", p, other)
		}
	}
	if SlotName(BootPartition) != "" || SlotPartition("c") != 0 {
		t.Error("a slot that is none")
	}
}

func FuzzParseAutoboot(f *testing.F) {
	f.Add(Autoboot{2, 3}.Encode())
	f.Add([]byte("[tryboot]\nboot_partition=1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAutoboot(text)
		if err != nil {
			return
		}
		if again, err := ParseAutoboot(a.Encode()); err != nil || again != a && a.Try != 0 {
			t.Errorf("got %+v, %v, want %+v", again, err, a)
		}
		if !bytes.Contains(text, []byte("boot_partition")) {
			t.Errorf("a partition from %q", text)
		}
	})
}
