package scsi

import "slices"

// An attentions queue has the unit attention conditions of an I_T_L nexus that wait
// to be reported (SAM-5 section 5.14). Each is in it once at most, so that the
// number of codes bounds it.
type attentions []uint16

// add queues a condition. Resets come before all else, and the greater one stands
// for the lesser ones (SAM-5 table 43).
func (q *attentions) add(code uint16) {
	const reset = 0x29
	if slices.Contains(*q, code) {
		return
	}
	if code>>8 != reset {
		*q = append(*q, code)
		return
	}
	if len(*q) > 0 && (*q)[0]>>8 == reset {
		(*q)[0] = min((*q)[0], code) // the qualifiers are in the order of precedence
		return
	}
	*q = slices.Insert(*q, 0, code)
}

// take removes the first.
func (q *attentions) take() (code uint16, ok bool) {
	if len(*q) == 0 {
		return 0, false
	}
	code = (*q)[0]
	*q = slices.Delete(*q, 0, 1)
	return code, true
}

// drop forgets a condition that was reported by other means.
func (q *attentions) drop(code uint16) {
	*q = slices.DeleteFunc(*q, func(c uint16) bool { return c == code })
}
