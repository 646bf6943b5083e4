package media

import (
	"fmt"
	"slices"

	"github.com/pion/srtp/v3"
)

// keys are a session's, of SRTP and with it of SRTCP (RFC 3711 section 3.2). Its
// session's mutex guards them.
type keys struct {
	ours    []crypto // that SDES describes
	out, in *srtp.Context
	outKey  string // that out was made of; likewise inKey
	inKey   string
}

// offer draws keys for all suites, unless there are some.
func (k *keys) offer(suited []string) {
	if len(k.ours) > 0 {
		return
	}
	for i, name := range suited {
		k.ours = append(k.ours, crypto{tag: fmt.Sprint(i + 1), suite: name, key: suites[name].newKey()})
	}
}

// lines describe ours.
func (k *keys) lines() (list []string) {
	for _, c := range k.ours {
		list = append(list, c.String())
	}
	return list
}

// answer takes the first that is offered of a suite that we take (RFC 4568 section
// 5.1.2), and chooses ours.
func (k *keys) answer(offered []crypto, suited []string, use bool) error {
	i := slices.IndexFunc(offered, func(c crypto) bool { return slices.Contains(suited, c.suite) })
	if i < 0 {
		return ErrUnkeyed
	}
	theirs := offered[i]
	if j := slices.IndexFunc(k.ours, func(c crypto) bool { return c.suite == theirs.suite }); j >= 0 {
		k.ours = k.ours[j : j+1]
	} else {
		k.ours = []crypto{{suite: theirs.suite, key: suites[theirs.suite].newKey()}}
	}
	k.ours[0].tag = theirs.tag
	return k.force(k.ours[0], theirs, use)
}

// accept takes the one that was chosen of ours. One that is not final leaves the others
// to be chosen yet.
func (k *keys) accept(chosen []crypto, use, final bool) error {
	if len(chosen) == 0 {
		return ErrUnkeyed
	}
	theirs := chosen[0]
	i := slices.IndexFunc(k.ours, func(c crypto) bool { return c.tag == theirs.tag && c.suite == theirs.suite })
	if i < 0 {
		return ErrUnkeyed
	}
	ours := k.ours[i]
	if final {
		k.ours = []crypto{ours}
	}
	return k.force(ours, theirs, use)
}

// force puts keys in force, unless they are of no use. One that stays goes on where
// it was.
func (k *keys) force(ours, theirs crypto, use bool) error {
	if !use {
		return nil
	}
	var err error
	if own := ours.suite + string(ours.key); own != k.outKey {
		if k.out, err = ours.context(); err != nil {
			return err
		}
		k.outKey = own
	}
	if own := theirs.suite + string(theirs.key) + string(theirs.mki); own != k.inKey {
		if k.in, err = theirs.context(); err != nil {
			return err
		}
		k.inKey = own
	}
	return nil
}
