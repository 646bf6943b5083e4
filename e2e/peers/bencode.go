package peers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// NG is a dictionary of rtpengine's control protocol. Values are strings,
// integers, lists of strings, and dictionaries.
type NG map[string]any

var errBencode = errors.New("bencoding is broken")

func bencode(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Itoa(len(v)) + ":" + v
	case int:
		return "i" + strconv.Itoa(v) + "e"
	case []string:
		var b strings.Builder
		for _, s := range v {
			b.WriteString(bencode(s))
		}
		return "l" + b.String() + "e"
	case NG:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		var b strings.Builder
		for _, k := range keys {
			b.WriteString(bencode(k))
			b.WriteString(bencode(v[k]))
		}
		return "d" + b.String() + "e"
	}
	panic(fmt.Sprintf("bencode has no form for a %T", v)) // a test's own mistake
}

// bdecode reads a dictionary. Lists in it become []any.
func bdecode(s string) (NG, error) {
	v, rest, err := bvalue(s)
	if err != nil {
		return nil, err
	}
	d, ok := v.(NG)
	if !ok || strings.TrimSpace(rest) != "" {
		return nil, fmt.Errorf("%w: it is not one dictionary", errBencode)
	}
	return d, nil
}

func bvalue(s string) (v any, rest string, err error) {
	switch {
	case s == "":
		return nil, "", fmt.Errorf("%w: it ends early", errBencode)
	case s[0] == 'i':
		text, rest, _ := strings.Cut(s[1:], "e")
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, "", fmt.Errorf("%w: %w", errBencode, err)
		}
		return n, rest, nil
	case s[0] == 'l':
		list, rest, err := bitems(s[1:])
		return list, rest, err
	case s[0] == 'd':
		list, rest, err := bitems(s[1:])
		if err != nil {
			return nil, "", err
		}
		d := make(NG, len(list)/2)
		for i := 0; i+1 < len(list); i += 2 {
			key, _ := list[i].(string)
			d[key] = list[i+1]
		}
		return d, rest, nil
	}
	size, after, _ := strings.Cut(s, ":")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > len(after) {
		return nil, "", fmt.Errorf("%w: a string of %q bytes", errBencode, size)
	}
	return after[:n], after[n:], nil
}

// bitems reads values up to the end of their list or dictionary.
func bitems(s string) (list []any, rest string, err error) {
	for !strings.HasPrefix(s, "e") {
		var v any
		if v, s, err = bvalue(s); err != nil {
			return nil, "", err
		}
		list = append(list, v)
	}
	return list, s[1:], nil
}
