package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/card"
)

// trial is where the firmware says that it started the slot under [tryboot]:
// the Pi's in the device tree, the emulated one on the kernel's command line.
const (
	trialProperty = "proc/device-tree/chosen/bootloader/tryboot"
	trialWord     = card.TrialParam + "=1"
)

// A slot is which system runs.
type slot struct {
	partition int // 0: the command line does not say
	onTrial   bool
}

// runningSlot reads which system the firmware started. root is the folder that
// holds /proc.
func runningSlot(root string) (slot, error) {
	line, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return slot{}, err
	}
	var s slot
	words := strings.Fields(string(line))
	for _, w := range words {
		if name, ok := strings.CutPrefix(w, card.SlotParam+"="); ok {
			s.partition = card.SlotPartition(name)
		}
	}
	flag, err := os.ReadFile(filepath.Join(root, trialProperty))
	if err == nil {
		s.onTrial = slices.ContainsFunc(flag, func(b byte) bool { return b != 0 })
	} else { // most boards have no such property
		s.onTrial = slices.Contains(words, trialWord)
	}
	return s, nil
}

// event is what people should know of the slot, given the boot partition's
// folder; false: nothing.
func (s slot) event(cardDir string) (bmc.Event, bool) {
	if s.partition == 0 {
		return bmc.Event{}, false // started by hand, without a card's command line
	}
	name := strings.ToUpper(card.SlotName(s.partition))
	text, err := os.ReadFile(filepath.Join(cardDir, card.AutobootFile))
	var boot card.Autoboot
	if err == nil {
		boot, err = card.ParseAutoboot(text)
	}
	switch {
	case err != nil:
		return bmc.Event{Severity: bmc.Warning, Kind: "slot.unknown", Message: fmt.Sprintf("System %s runs; which one the card starts cannot be read: %v.", name, err)}, true
	case s.onTrial:
		return bmc.Event{Kind: "slot.trial", Message: fmt.Sprintf("System %s runs on trial.", name)}, true
	case s.partition != boot.Boot:
		return bmc.Event{Severity: bmc.Critical, Kind: "slot.fallback",
			Message: fmt.Sprintf("System %s runs although the card names partition %d: the other system could not be started.", name, boot.Boot)}, true
	}
	return bmc.Event{}, false
}
