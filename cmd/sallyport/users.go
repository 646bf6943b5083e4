package main

import (
	"fmt"
	"regexp"

	"github.com/sallyport/sallyport/sipproxy"
)

type usersConfig struct {
	File     string `toml:"file"`
	Required bool   `toml:"required"`
	For      string `toml:"for"`
}

// into sets what the proxy must know of the edge's own users; the file itself is
// read by build.
func (c usersConfig) into(s *sipproxy.Config, d *document) {
	s.AccountsRequired = c.Required
	if c.Required && c.File == "" {
		d.add("users.required", "is true, and there is no users.file: nobody would get in; name one, and add users by `sallyport user add`")
	}
	if c.For == "" {
		return
	}
	names, err := regexp.Compile("^(?:" + c.For + ")$")
	if err != nil {
		d.add("users.for", fmt.Sprintf("is no regular expression: %v; write it like \"[0-9]{2,6}\"", err))
		return
	}
	if c.File == "" {
		d.add("users.for", "is set, and there is no users.file: nobody of such a name would get in; name one, and add users by `sallyport user add`")
	}
	s.AccountsFor = names
}
