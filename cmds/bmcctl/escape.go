package main

// A keyFilter finds the keys that are meant for bmcctl itself, at the start of a
// line as in ssh(1): "~." leaves, "~B" sends a break, "~?" helps, "~~" is one tilde.
type keyFilter struct {
	inLine bool // something was typed since the last end of a line
	tilde  bool // a tilde at the start of a line waits for what follows
}

// A key is one that is meant for bmcctl.
type key byte

const (
	noKey    key = 0
	leaveKey key = '.'
	breakKey key = 'B'
	helpKey  key = '?'
)

// filter returns what of in goes to the host, up to the first key, and what of in is
// left behind that.
func (k *keyFilter) filter(in []byte) (out []byte, pressed key, rest []byte) {
	for i, b := range in {
		if k.tilde {
			k.tilde = false
			switch b {
			case byte(leaveKey), byte(breakKey), byte(helpKey):
				return out, key(b), in[i+1:]
			case '~':
				out = append(out, b)
				k.inLine = true
				continue
			}
			out = append(out, '~')
		} else if b == '~' && !k.inLine {
			k.tilde = true
			continue
		}
		out = append(out, b)
		k.inLine = b != '\r' && b != '\n'
	}
	return out, noKey, nil
}
