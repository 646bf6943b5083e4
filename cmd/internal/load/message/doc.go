// Package message reads and writes SIP messages as an end of them needs them:
// header fields by name, in the order and spelling in which they came.
//
// The parser is sipgo's, told to leave all header fields but CSeq and
// Content-Length as they are: Via, Record-Route and their like go back byte by
// byte. Of those an end reads addresses, tags and parameters.
//
// It refuses a message that is longer than MaxSize, or has no end. RFC 3261,
// sections 7 and 20.
package message
