package resource

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// durationForm is the pattern of Redfish's durations (DSP0266, Duration
// values), with the fraction's dot as it is meant.
const durationForm = `^P(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?$`

// ParseDuration reads a duration of days, hours, minutes and seconds, as in
// "P1DT2H3M4.5S".
func ParseDuration(text string) (d time.Duration, ok bool) {
	m := regexp.MustCompile(durationForm).FindStringSubmatch(text)
	if m == nil || text == "P" || strings.HasSuffix(text, "T") {
		return 0, false
	}
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return 0, false
		}
		d += time.Duration(n * float64(unit))
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
