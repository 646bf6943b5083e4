package main

import (
	"fmt"
	"reflect"
)

// unknown words the fault of a key that does not exist, and guesses the one meant.
func unknown(at, name string, fields map[string]reflect.Value) string {
	if dotted(at, name) == "tls.min_version" { // what replaced it has other values, and no name like it
		return "is now tls.profile; write profile = \"modern\" for TLS 1.3 alone, and nothing for 1.2 or later"
	}
	what := "unknown key"
	if at == "" {
		what = "unknown section"
	}
	best, bestDistance := "", 1+len(name)/3
	for known := range fields {
		d := distance(name, known)
		if d < bestDistance || d == bestDistance && (best == "" || known < best) {
			best, bestDistance = known, d
		}
	}
	if best != "" {
		return fmt.Sprintf("%s; did you mean %s?", what, dotted(at, best))
	}
	return what + "; remove it, or see `sallyport help config` for those there are"
}

// distance counts the letters to insert, drop or change to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
