package resource

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// durationForm is the pattern of Redfish's durations (DSP0266, Duration
// values), with the fraction's dot as it is meant.
const durationForm = `^P(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9})(?:\.(\d{1,9}))?S)?)?$`

// ParseDuration reads a duration of days, hours, minutes and seconds, as in
// "P1DT2H3M4.5S".
func ParseDuration(text string) (d time.Duration, ok bool) {
	m := regexp.MustCompile(durationForm).FindStringSubmatch(text)
	if m == nil || text == "P" || strings.HasSuffix(text, "T") {
		return 0, false
	}
	// A fraction is counted in nanoseconds: a float would make 4.1 a little less.
	if m[5] != "" {
		m[5] += strings.Repeat("0", 9-len(m[5]))
	}
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second, time.Nanosecond} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil || time.Duration(n) > (math.MaxInt64-d)/unit {
			return 0, false
		}
		d += time.Duration(n) * unit
	}
	return d, true
}

// FormatDuration writes a duration, which is not negative, to the millisecond.
func FormatDuration(d time.Duration) string {
	d = d.Round(time.Millisecond)
	s := "P"
	if days := d / (24 * time.Hour); days > 0 {
		s += strconv.Itoa(int(days)) + "D"
		d -= days * 24 * time.Hour
	}
	if d == 0 && s != "P" {
		return s
	}
	s += "T"
	if hours := d / time.Hour; hours > 0 {
		s += strconv.Itoa(int(hours)) + "H"
		d -= hours * time.Hour
	}
	if minutes := d / time.Minute; minutes > 0 {
		s += strconv.Itoa(int(minutes)) + "M"
		d -= minutes * time.Minute
	}
	if d > 0 || strings.HasSuffix(s, "T") {
		s += strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
	}
	return s
}
