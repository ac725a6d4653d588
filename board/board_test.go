package board

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nitrino/nitrino/internal/settings"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name  string
		wires string
		field string
		err   error
	}{
		{"none", `{}`, "", nil},
		{"all apart", `{"power_button":{"line":0},"reset_button":{"line":1},"power_led":{"line":1023}}`, "", nil},
		{"same line of two chips", `{"power_button":{"line":4},"reset_button":{"line":4,"chip":"exp"}}`, "", nil},
		{"twice", `{"nmi_button":{"line":4},"standby":{"line":4}}`, "/standby/line", ErrLineTwice},
		{"twice on a chip", `{"nmi_button":{"line":4,"chip":"c"},"id_light":{"line":4,"chip":"c","active_low":true}}`, "/id_light/line", ErrLineTwice},
		{"negative", `{"power_led":{"line":-1}}`, "/power_led/line", ErrNoLine},
		{"too high", `{"host_reset":{"line":1024}}`, "/host_reset/line", ErrNoLine},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w Wires
			if err := json.Unmarshal([]byte(c.wires), &w); err != nil {
				t.Fatal(err)
			}
			err := w.Validate()
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if c.err == nil {
				return
			}
			var f *settings.FieldError
			if !errors.As(err, &f) || f.Pointer != c.field {
				t.Fatalf("got %v, want field %s", err, c.field)
			}
		})
	}
}

func TestList(t *testing.T) {
	// Each name must be the JSON key of its field.
	wires := &Wire{Line: 7, ActiveLow: true}
	all := Wires{wires, wires, wires, wires, wires, wires, wires, wires, wires}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]Wire
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	list := all.List()
	if len(list) != len(keys) {
		t.Fatalf("got %d wires, want %d", len(list), len(keys))
	}
	outputs := 0
	for _, n := range list {
		if got, ok := keys[n.Name]; !ok || got != n.Wire {
			t.Errorf("%s: got %+v in JSON, want %+v", n.Name, got, n.Wire)
		}
		if n.Output {
			outputs++
		}
	}
	if outputs != 4 {
		t.Errorf("got %d outputs, want 4", outputs)
	}
	if got := (Wires{}).List(); got != nil {
		t.Errorf("no wires: got %v", got)
	}
}
