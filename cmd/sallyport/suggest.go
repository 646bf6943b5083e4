package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// unknown words the fault of a key that does not exist, and guesses the one meant.
func unknown(at, name string, value any, fields map[string]reflect.Value) string {
	if _, section := value.(map[string]any); at == "" && !section {
		if homes := sectionsWith(name, fields); len(homes) > 0 {
			return "stands before any section; write it below " + strings.Join(homes, " or ")
		}
	}
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

// sectionsWith are the sections that have a key of a name, as a file has them.
func sectionsWith(name string, sections map[string]reflect.Value) (homes []string) {
	for _, section := range slices.Sorted(maps.Keys(sections)) {
		switch v := sections[section]; {
		case v.Kind() == reflect.Struct && fieldsOf(v)[name].IsValid():
			homes = append(homes, "["+section+"]")
		case v.Kind() == reflect.Slice && fieldsOf(reflect.Zero(v.Type().Elem()))[name].IsValid():
			homes = append(homes, "[["+section+"]]")
		}
	}
	return homes
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
