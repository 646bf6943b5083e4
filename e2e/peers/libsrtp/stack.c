/*
 * One direction of the SRTP of a test's phone, by libsrtp: an implementation
 * that has nothing in common with the edge's.
 *
 * usage: stack seal|open SUITE KEY [MKI]
 *
 * The key is a master key and its salt; it and the MKI, which each packet
 * carries, are hexadecimal. Standard input is a SOCK_SEQPACKET socket. A
 * request is a packet, RTP or RTCP; its reply is one byte, libsrtp's status,
 * and the packet sealed or opened if that is 0. The program ends when the
 * other end closes.
 */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_PACKET 2048

typedef void (*profile)(srtp_crypto_policy_t *);

/* SRTCP has a tag of 80 bits where SRTP has one of 32 (RFC 4568 section 6.2). */
static const struct {
	const char *name;
	profile rtp, rtcp;
	size_t key;
} suites[] = {
	{"AES_CM_128_HMAC_SHA1_80", srtp_crypto_policy_set_rtp_default, srtp_crypto_policy_set_rtcp_default, 30},
	{"AES_CM_128_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32, srtp_crypto_policy_set_rtcp_default, 30},
	{"AES_256_CM_HMAC_SHA1_80", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80, srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80, 46},
	{"AES_256_CM_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32, srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80, 46},
	{"AEAD_AES_128_GCM", srtp_crypto_policy_set_aes_gcm_128_16_auth, srtp_crypto_policy_set_aes_gcm_128_16_auth, 28},
	{"AEAD_AES_256_GCM", srtp_crypto_policy_set_aes_gcm_256_16_auth, srtp_crypto_policy_set_aes_gcm_256_16_auth, 44},
};

/* unhex returns how many bytes it wrote, or 0 for what is no hexadecimal. */
static size_t unhex(const char *s, unsigned char *out, size_t max)
{
	size_t n = 0;
	unsigned int byte;

	for (; s[0] && s[1]; s += 2) {
		if (n == max || sscanf(s, "%2x", &byte) != 1)
			return 0;
		out[n++] = (unsigned char)byte;
	}
	return s[0] ? 0 : n;
}

/* session makes what seals, or opens, packets of any SSRC under one key. */
static srtp_t session(const char *suite, const char *key, const char *mki, srtp_ssrc_type_t direction)
{
	unsigned char k[SRTP_MAX_KEY_LEN], id[SRTP_MAX_MKI_LEN];
	srtp_master_key_t master = {.key = k, .mki_id = id};
	srtp_master_key_t *masters[] = {&master};
	srtp_policy_t policy = {.ssrc = {.type = direction}, .window_size = 1024};
	srtp_t made = NULL;
	size_t i;

	for (i = 0; i < sizeof suites / sizeof *suites && strcmp(suites[i].name, suite) != 0; i++)
		;
	if (i == sizeof suites / sizeof *suites || unhex(key, k, sizeof k) != suites[i].key)
		return NULL;
	suites[i].rtp(&policy.rtp);
	suites[i].rtcp(&policy.rtcp);
	if (mki) {
		if ((master.mki_size = (unsigned int)unhex(mki, id, sizeof id)) == 0)
			return NULL;
		policy.keys = masters;
		policy.num_master_keys = 1;
	} else {
		policy.key = k;
	}
	return srtp_create(&made, &policy) == srtp_err_status_ok ? made : NULL;
}

/* is_rtcp: RFC 5761 section 4. */
static int is_rtcp(const unsigned char *packet, int length)
{
	return length > 1 && packet[1] >= 192 && packet[1] <= 223;
}

int main(int argc, char **argv)
{
	/* The reply's first byte stands before a packet that libsrtp wants
	 * aligned, and writes its trailer behind. */
	_Alignas(8) unsigned char buffer[8 + MAX_PACKET + SRTP_MAX_TRAILER_LEN + 4];
	unsigned char *reply = buffer + 7, *packet = buffer + 8;
	const char *mki = argc > 4 ? argv[4] : NULL;
	srtp_t s;
	int seal;
	ssize_t n;

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: %s seal|open SUITE KEY [MKI]\n", argv[0]);
		return 2;
	}
	if (srtp_init() != srtp_err_status_ok) {
		fprintf(stderr, "start libsrtp: it does not\n");
		return 1;
	}
	seal = strcmp(argv[1], "seal") == 0;
	s = session(argv[2], argv[3], mki, seal ? ssrc_any_outbound : ssrc_any_inbound);
	if (!s) {
		fprintf(stderr, "make session of %s: suite, key or MKI is not good\n", argv[2]);
		return 1;
	}
	while ((n = recv(0, packet, MAX_PACKET, 0)) > 0) {
		int length = (int)n, rtcp = is_rtcp(packet, length);
		srtp_err_status_t status;

		if (seal && rtcp)
			status = srtp_protect_rtcp_mki(s, packet, &length, mki != NULL, 0);
		else if (seal)
			status = srtp_protect_mki(s, packet, &length, mki != NULL, 0);
		else if (rtcp)
			status = srtp_unprotect_rtcp_mki(s, packet, &length, mki != NULL);
		else
			status = srtp_unprotect_mki(s, packet, &length, mki != NULL);
		reply[0] = (unsigned char)status;
		if (send(0, reply, status == srtp_err_status_ok ? (size_t)length + 1 : 1, MSG_NOSIGNAL) < 0)
			break;
	}
	return 0;
}
