package sipproxy

import "testing"

// Who a URI names is the same for us and for the PBX, however it is written.
func TestAccount(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:1001@pbx.example.com": "1001", "sips:1001@pbx.example.com": "1001", "sip:%31001@pbx.example.com": "1001",
		"sip:1001:secret@pbx.example.com": "1001", "sip:%2b49@pbx.example.com": "+49", "sip:a%40b@pbx.example.com": "a@b",
		"tel:+49-30;phone-context=x": "+49-30", "sip:1001": "1001",
	} {
		if got := accountOf(uri); got != want {
			t.Errorf("%s names %q, want %q", uri, got, want)
		}
	}
	plain, _ := aorKey("sip:1001@pbx.example.com")
	if escaped, err := aorKey("sip:%31%30%30%31@PBX.example.com;user=phone"); err != nil || escaped != plain {
		t.Errorf("escaped it is kept as %q (%v), plain as %q", escaped, err, plain)
	}
}
