package sipproxy

import (
	"regexp"
	"strings"
)

var (
	digestScheme = regexp.MustCompile(`(?i)^[ \t]*digest[ \t]+`)
	digestPair   = regexp.MustCompile("^[ \t]*([A-Za-z0-9.!%*_+'~`-]+)[ \t]*=[ \t]*(\"(?:[^\"\\\\]|\\\\.)*\"|[^\\s\",;=]+)[ \t]*(?:,|$)")
	digestGap    = regexp.MustCompile(`^[ \t]*(?:,|$)`)
	digestToken  = regexp.MustCompile("^[A-Za-z0-9.!%*_+'~`-]+$")
)

// digestForPBX is an Authorization as it goes on to the PBX, or nothing if it
// must not: a scheme that no PBX here knows, or what is no digest (RFC 3261
// section 25.1). chan_pjsip drops a request that has one, without an answer;
// without them, its sender is asked for a digest. Commas too many, and quotes too
// few, are put right.
func digestForPBX(value string) string {
	scheme := digestScheme.FindString(value)
	if scheme == "" {
		return ""
	}
	var params []string
	for rest := value[len(scheme):]; rest != ""; {
		if gap := digestGap.FindString(rest); gap != "" {
			rest = rest[len(gap):]
			continue
		}
		p := digestPair.FindStringSubmatch(rest)
		if p == nil {
			return ""
		}
		rest = rest[len(p[0]):]
		if p[2][0] != '"' && !digestToken.MatchString(p[2]) {
			p[2] = `"` + p[2] + `"`
		}
		params = append(params, p[1]+"="+p[2])
	}
	if len(params) == 0 {
		return ""
	}
	return "Digest " + strings.Join(params, ", ")
}
