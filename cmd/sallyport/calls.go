package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// callsConfig is what phones may call.
type callsConfig struct {
	Groups    []policy.Group      `toml:"groups"`
	Numbers   []policy.NumberRule `toml:"numbers"`
	Emergency []string            `toml:"emergency"`

	International []string `toml:"international"`
	Home          []string `toml:"home"`
	Premium       []string `toml:"premium"`

	MaxCalls           int           `toml:"max_calls"`
	MaxCallsPerUser    int           `toml:"max_calls_per_user"`
	PerHour            int           `toml:"per_hour"`
	PerHourPerUser     int           `toml:"per_hour_per_user"`
	AbroadADay         time.Duration `toml:"abroad_a_day"`
	AbroadADayPerUser  time.Duration `toml:"abroad_a_day_per_user"`
	PremiumADay        time.Duration `toml:"premium_a_day"`
	PremiumADayPerUser time.Duration `toml:"premium_a_day_per_user"`

	ClosedTo []string    `toml:"closed_to"`
	Night    policy.Span `toml:"night"`
	Weekend  []weekday   `toml:"weekend"`
	TimeZone string      `toml:"time_zone"` // empty: this machine's
	EndCalls bool        `toml:"end_calls"`
	AlarmURL string      `toml:"alarm_url"`
}

// weekday is a day by its name.
type weekday struct{ time.Weekday }

func (w *weekday) UnmarshalText(text []byte) error {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(d.String(), string(text)) {
			w.Weekday = d
			return nil
		}
	}
	return fmt.Errorf("is %q, and must be a day; write it like \"saturday\"", text)
}

func defaultCalls() callsConfig {
	d := policy.DefaultCalls()
	c := callsConfig{Emergency: d.Emergency, International: d.International}
	for _, day := range d.Weekend {
		c.Weekend = append(c.Weekend, weekday{day})
	}
	return c
}

// rules are the section as policy has it.
func (c callsConfig) rules() policy.Calls {
	r := policy.Calls{
		Groups: c.Groups, Numbers: c.Numbers, Emergency: c.Emergency,
		International: c.International, Home: c.Home, Premium: c.Premium,
		MaxCalls: c.MaxCalls, MaxCallsPerUser: c.MaxCallsPerUser, CallsPerHour: c.PerHour, CallsPerHourPerUser: c.PerHourPerUser,
		Abroad:      policy.Daily{InAll: c.AbroadADay, PerUser: c.AbroadADayPerUser},
		PremiumTime: policy.Daily{InAll: c.PremiumADay, PerUser: c.PremiumADayPerUser},
		Night:       c.Night, EndCalls: c.EndCalls,
	}
	for _, day := range c.Weekend {
		r.Weekend = append(r.Weekend, day.Weekday)
	}
	for _, class := range c.ClosedTo { // others, validate finds
		r.ClosedTo.Abroad = r.ClosedTo.Abroad || class == "international"
		r.ClosedTo.Premium = r.ClosedTo.Premium || class == "premium"
	}
	r.Zone, _ = time.LoadLocation(c.zone()) // validate finds what is none
	return r
}

func (c callsConfig) zone() string {
	if c.TimeZone == "" {
		return "Local"
	}
	return c.TimeZone
}

func (c callsConfig) validate(d *document) {
	if c.Night != (policy.Span{}) && len(c.ClosedTo) == 0 {
		d.add("policy.calls.night", "is set, and closed_to is not; say what is not called then, like closed_to = [\"international\", \"premium\"], or remove it")
	}
	for _, class := range c.ClosedTo {
		choice(d, "policy.calls.closed_to", class, "international", "premium")
	}
	if _, err := time.LoadLocation(c.zone()); err != nil {
		d.add("policy.calls.time_zone", fmt.Sprintf("%v; give a name like \"Europe/Berlin\", or install tzdata", err))
	}
	if c.AlarmURL != "" {
		if _, err := newWebhook(c.AlarmURL, nil); err != nil {
			d.add("policy.calls.alarm_url", err.Error())
		}
	}
}
