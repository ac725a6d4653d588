package sdr

import "math"

// Factors turn a gauge's value into the byte that sensor commands carry, and
// back: value = (M·raw + B·10^BExp) · 10^RExp (section 36.3). The zero Factors
// know one value, 0.
type Factors struct {
	M, B       int // 10 bits, two's complement
	BExp, RExp int // 4 bits, two's complement
	Signed     bool
}

// The bounds of M and B, and of the exponents.
const (
	maxFactor   = 511
	minFactor   = -512
	maxExponent = 7
	minExponent = -8
)

// newFactors finds those that reach from lowest to highest with the finest step
// that is a round number. An offset has to make it twice as fine: there are
// consoles that add it to the hysteresis, too.
func newFactors(lowest, highest float64) Factors {
	plain, ok := fit(lowest, highest, false)
	if offset, found := fit(lowest, highest, true); found && (!ok || 2*offset.step() < plain.step()) {
		return offset
	}
	return plain
}

// fit finds the factors with the finest step, signed where that is needed; with
// an offset no sign is. It fails for numbers beyond any exponent.
func fit(lowest, highest float64, offset bool) (Factors, bool) {
	for rexp := minExponent; rexp <= maxExponent; rexp++ {
		f := Factors{RExp: rexp, Signed: !offset && lowest < 0}
		if offset && !f.setOffset(lowest) {
			continue
		}
		least, most := f.bounds()
		span := (highest - f.offset()) / most
		if f.Signed {
			span = max(span, lowest/least)
		}
		// The tolerance lets 255 in 255 steps be 1 and not 2.
		m := math.Ceil(scale(span, -rexp) - 1e-9)
		if m > maxFactor {
			continue
		}
		f.M = round(max(1, int(m)))
		for f.M%10 == 0 && f.RExp < maxExponent && (f.B == 0 || f.BExp > minExponent) {
			f.M /= 10
			f.RExp++
			if f.B != 0 {
				f.BExp--
			}
		}
		return f, true
	}
	return Factors{M: maxFactor, RExp: maxExponent, Signed: lowest < 0}, false
}

// round is the roundest number from m on that is at most a tenth more.
func round(m int) int {
	for unit := 100; unit > 1; unit /= 10 {
		for _, u := range [...]int{unit, unit / 2} {
			if up := (m + u - 1) / u * u; up <= maxFactor && 10*up <= 11*m {
				return up
			}
		}
	}
	return m
}

// setOffset sets B and its exponent to what is nearest to v and not above it.
func (f *Factors) setOffset(v float64) bool {
	for e := minExponent; e <= maxExponent; e++ {
		b := math.Floor(scale(v, -e-f.RExp) + 1e-9)
		if b < minFactor || b > maxFactor {
			continue
		}
		f.B, f.BExp = int(b), e
		if f.B == 0 {
			f.BExp = 0
		}
		for f.B != 0 && f.B%10 == 0 && f.BExp < maxExponent {
			f.B /= 10
			f.BExp++
		}
		return true
	}
	return false
}

// scale is v·10^e; a division keeps decimal fractions what people write.
func scale(v float64, e int) float64 {
	if e < 0 {
		return v / math.Pow10(-e)
	}
	return v * math.Pow10(e)
}

func (f Factors) step() float64   { return scale(float64(f.M), f.RExp) }
func (f Factors) offset() float64 { return scale(float64(f.B), f.BExp+f.RExp) }

// bounds are the lowest and the highest raw number.
func (f Factors) bounds() (least, most float64) {
	if f.Signed {
		return math.MinInt8, math.MaxInt8
	}
	return 0, math.MaxUint8
}

// Raw is the byte for a value, the nearest one that there is.
func (f Factors) Raw(v float64) byte {
	if f.M == 0 {
		return 0
	}
	least, most := f.bounds()
	x := math.Round((v - f.offset()) / f.step())
	return byte(int(min(max(x, least), most)))
}

// Value is what a byte stands for.
func (f Factors) Value(raw byte) float64 {
	x := float64(raw)
	if f.Signed {
		x = float64(int8(raw))
	}
	if f.BExp >= 0 {
		return scale(float64(f.M)*x+float64(f.B)*math.Pow10(f.BExp), f.RExp)
	}
	return scale(float64(f.M)*x*math.Pow10(-f.BExp)+float64(f.B), f.BExp+f.RExp)
}

// rawDifference is the byte for a difference of values, as hysteresis is one.
func (f Factors) rawDifference(d float64) byte {
	if f.M == 0 {
		return 0
	}
	return byte(min(max(math.Round(d/f.step()), 0), math.MaxUint8))
}

// difference is what such a byte stands for.
func (f Factors) difference(raw byte) float64 { return scale(float64(f.M)*float64(raw), f.RExp) }

// put answers the six bytes of a full sensor record from M on (table 43-1,
// bytes 25 to 30), which Get Sensor Reading Factors also answers: no tolerance
// and no accuracy is told.
func (f Factors) put() [6]byte {
	return [6]byte{
		byte(f.M), byte(f.M>>8&0x03) << 6,
		byte(f.B), byte(f.B>>8&0x03) << 6,
		0,
		byte(f.RExp&0x0F)<<4 | byte(f.BExp&0x0F),
	}
}
