#!/usr/bin/env bash
# Installs the real peers of the end-to-end tests on a Debian 12 machine, as
# root. It may be run again: what is there is left alone, in well under a
# second. Everything of its own stays in one cache folder; /etc/apt is not
# touched.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
export DEBIAN_FRONTEND=noninteractive
apt_wait="-o DPkg::Lock::Timeout=300"
mkdir -p "$cache/stamps"

say() { echo "peers: $*"; }
die() {
	echo "peers: $*" >&2
	exit 1
}

# stamp NAME VERSION COMMAND: runs COMMAND unless it succeeded before.
stamp() {
	local file="$cache/stamps/$1-$2"
	[ -e "$file" ] && "$3" present && return 0
	say "install $1"
	local log="$cache/$1.log"
	# In a shell of its own: in a condition, bash would ignore set -e.
	if ! bash -euo pipefail -c "$(declare -f "$3" mirror suite); here='$here' cache='$cache' apt_wait='$apt_wait'; $3 install" >"$log" 2>&1; then
		tail -n 25 "$log" >&2
		die "could not install $1; the whole log is $log. Is the package mirror reachable?"
	fi
	"$3" present || die "$1 was installed but does not work; see $log"
	touch "$file"
}

mirror() {
	local m
	m=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
	[ -n "$m" ] || m=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true)
	[ -n "$m" ] || { echo "no package source in /etc/apt" >&2; return 1; }
	echo "$m"
}

# suite ROOT PACKAGES: makes a root of Debian's testing suite with packages in it.
suite() {
	local m
	m=$(mirror)
	rm -rf "$1" "$1.new"
	# A mirror that is a snapshot has a Release file past its date.
	mmdebstrap --mode=root --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase --aptopt='APT::Install-Recommends "false"' \
		--aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--include="$2" forky "$1.new" \
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $m forky main"
	mv "$1.new" "$1"
}

# What bookworm has as it is.
packages() {
	local list="iproute2 iptables procps openssl tshark baresip-core mmdebstrap gcc libc6-dev libsrtp2-dev sipvicious kamailio kamailio-tls-modules kamailio-websocket-modules debian-archive-keyring ca-certificates"
	case $1 in
	present)
		local tool
		for tool in tshark baresip mmdebstrap gcc openssl ip ss iptables svmap svwar svcrack kamailio; do
			command -v "$tool" >/dev/null || return 1
		done
		compgen -G "/usr/lib/*/kamailio/modules/websocket.so" >/dev/null || return 1
		[ -e /usr/include/srtp2/srtp.h ]
		;;
	install)
		apt-get $apt_wait -q update
		# shellcheck disable=SC2086 # a list of words
		apt-get $apt_wait -q -y --no-install-recommends install $list
		;;
	esac
}

# Asterisk 16 with chan_sip, the last that Debian built it into, beside the
# system's packages: apt gets a configuration, lists and a cache of its own.
asterisk() {
	case $1 in
	present) [ -x /usr/sbin/asterisk ] && [ -e /usr/lib/asterisk/modules/chan_sip.so ] && [ -e /usr/lib/asterisk/modules/app_voicemail.so ] ;;
	install)
		local p="$cache/apt" m
		m=$(mirror)
		rm -rf "$p" && mkdir -p "$p/lists/partial" "$p/cache/archives/partial"
		cp -r /etc/apt "$p/etc"
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $m bullseye main" >"$p/etc/sources.list.d/bullseye.list"
		printf 'Package: *\nPin: release n=bullseye\nPin-Priority: 100\n' >"$p/etc/preferences.d/bullseye"
		local o="-o Acquire::Check-Valid-Until=false -o Dir::Etc=$p/etc -o Dir::State::lists=$p/lists -o Dir::Cache=$p/cache $apt_wait"
		apt-get $o -q update
		apt-get $o -q -y --no-install-recommends install asterisk asterisk-modules asterisk-voicemail
		;;
	esac
}

# A root of Debian's testing suite: SIPp 3.8, which has TLS and SRTP, and
# rtpengine 26.
forky() {
	local root="$cache/forky"
	case $1 in
	present) [ -x "$root/usr/bin/sipp" ] && [ -x "$root/usr/bin/rtpengine" ] ;;
	install) suite "$root" sip-tester,rtpengine-daemon,ca-certificates ;;
	esac
}

# Asterisk 22, whose only SIP driver is chan_pjsip: a root of its own.
asterisk22() {
	local root="$cache/asterisk22"
	case $1 in
	present) [ -x "$root/usr/sbin/asterisk" ] && compgen -G "$root/usr/lib/*/asterisk/modules/chan_pjsip.so" >/dev/null ;;
	install) suite "$root" asterisk,asterisk-modules,ca-certificates ;;
	esac
}

# Chromium, and what pages make phones from: JsSIP and SIP.js as npm has them,
# each in one file. npm checks their hashes, which are in the lock file.
browser() {
	local b="$cache/browser"
	case $1 in
	present)
		[ -x /usr/bin/chromium ] && [ -s "$b/jssip.js" ] && [ -s "$b/sipjs.js" ] &&
			cmp -s "$here/browser/package-lock.json" "$b/package-lock.json"
		;;
	install)
		local list="chromium esbuild"
		command -v npm >/dev/null || list+=" npm"
		apt-get $apt_wait -q update
		# shellcheck disable=SC2086 # a list of words
		apt-get $apt_wait -q -y --no-install-recommends install $list
		rm -rf "$b" && mkdir -p "$b"
		cp "$here/browser/package.json" "$here/browser/package-lock.json" "$b"
		(cd "$b" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier)
		/usr/bin/esbuild "$b/node_modules/jssip/lib/JsSIP.js" --bundle --global-name=JsSIP --outfile="$b/jssip.js"
		/usr/bin/esbuild "$b/node_modules/sip.js/lib/index.js" --bundle --global-name=SIP --outfile="$b/sipjs.js"
		;;
	esac
}

# Firefox, and the sound server without which it lets no page listen.
firefox() {
	case $1 in
	present) [ -x /usr/lib/firefox-esr/firefox-esr ] && [ -x /usr/bin/pulseaudio ] ;;
	install)
		apt-get $apt_wait -q update
		apt-get $apt_wait -q -y --no-install-recommends install firefox-esr pulseaudio
		;;
	esac
}

# Pebble, the ACME server that certificate authorities test clients with, and
# the DNS server that comes with it.
pebble() {
	local bin="$cache/bin/pebble-2.10.1"
	case $1 in
	present) [ -x "$bin/pebble" ] && [ -x "$bin/pebble-challtestsrv" ] ;;
	install)
		mkdir -p "$bin"
		CGO_ENABLED=0 GOFLAGS= GOBIN="$bin" go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1 github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.1
		;;
	esac
}

# WireGuard in a process: what the trunk's bench sets beside the edge. Its
# module has no release that the proxy would know, so a commit names it.
wireguard() {
	local bin="$cache/bin/wireguard-go-ecfc5a8d5446"
	case $1 in
	present) [ -x "$bin/wireguard" ] ;;
	install)
		mkdir -p "$bin"
		CGO_ENABLED=0 GOFLAGS= GOBIN="$bin" go install golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446
		;;
	esac
}

[ "$(id -u)" = 0 ] || die "run this as root: it installs packages and the tests make network namespaces"
exec 9>"$cache/lock"
flock 9
stamp packages 5 packages
stamp asterisk16 1 asterisk
stamp forky 2 forky
stamp asterisk22 1 asterisk22
stamp browser 1 browser
stamp firefox 1 firefox
stamp pebble 2.10.1 pebble
stamp wireguard ecfc5a8d5446 wireguard
