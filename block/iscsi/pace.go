package iscsi

import "time"

const (
	// paceBurst is how many events of one kind of thing people are told of at once: some
	// firmware and some installers log in many times. After that it is one each
	// pacePause.
	paceBurst = 20
	pacePause = 10 * time.Second
	// maxPaces bounds who is known; all others count as one.
	maxPaces = 256
)

// A pacer is whose events are counted together. The initiator's name is not among
// it, as a host can give any.
type pacer struct{ host, target string }

// A pace bounds how often people are told of something that somebody can repeat.
type pace struct {
	until  time.Time // when it would be as if nothing had been told
	missed int
}

// paces are those that were told of lately.
type paces map[pacer]*pace

// take says whether to tell of an event, and how many before it nobody was told of.
func (p paces) take(of pacer, now time.Time) (missed int, ok bool) {
	one := p[of]
	if one == nil {
		for k, old := range p {
			if old.until.Before(now) {
				delete(p, k)
			}
		}
		if len(p) >= maxPaces {
			of = pacer{}
		}
		if one = p[of]; one == nil {
			one = new(pace)
			p[of] = one
		}
	}
	if one.until.Before(now) {
		one.until = now
	}
	if one.until.Sub(now) > (paceBurst-1)*pacePause {
		one.missed++
		return 0, false
	}
	one.until = one.until.Add(pacePause)
	missed, one.missed = one.missed, 0
	return missed, true
}
