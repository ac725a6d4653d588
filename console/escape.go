package console

// An action is what the person asked of the console by an escape.
type action int

const (
	nothing action = iota
	leave
	sendBreak
	showHelp
)

// An escape filter takes the escapes that are typed at the start of a line,
// as in ssh(1) and ipmitool's SOL, out of the bytes for the host.
type escape struct {
	midLine bool // the last byte did not end a line
	tilde   bool // a ~ at the start of a line waits for the next byte
}

// next appends to out what of in goes to the host, up to the first escape that
// asks for something. It returns how many bytes of in are used.
func (e *escape) next(out, in []byte) (_ []byte, used int, act action) {
	for i, b := range in {
		if e.tilde {
			e.tilde = false
			switch b {
			case '.':
				return out, i + 1, leave
			case 'B':
				return out, i + 1, sendBreak
			case '?':
				return out, i + 1, showHelp
			case '~': // one tilde, and the line has begun
			default:
				out = append(out, '~')
			}
			out = e.plain(out, b)
			continue
		}
		if b == '~' && !e.midLine {
			e.tilde = true
			continue
		}
		out = e.plain(out, b)
	}
	return out, len(in), nothing
}

func (e *escape) plain(out []byte, b byte) []byte {
	e.midLine = b != '\r' && b != '\n'
	return append(out, b)
}

// rest appends the tilde that still waits when the input has ended.
func (e *escape) rest(out []byte) []byte {
	if e.tilde {
		e.tilde = false
		out = e.plain(out, '~')
	}
	return out
}
