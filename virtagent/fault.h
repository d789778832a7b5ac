/*
 * fault.h - fault codes that cross the wire
 *
 * A fault's code is one of these or 1000 + an errno of Linux/x86 (so that a
 * client can tell "no such file" from "is a directory").  xmlrpc-c's own codes
 * (-500 and below) are passed on unchanged.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_FAULT_H
#define VA_FAULT_H

enum va_fault_code {
	VA_FAULT_NO_METHOD = -506, /* xmlrpc-c's: no such method */
	VA_FAULT_TYPE = -501,	   /* xmlrpc-c's: wrong argument type or count */
	VA_FAULT_LIMIT = -509,	   /* xmlrpc-c's: a limit was passed; text names it */
	VA_FAULT_PARSE = -503,	   /* xmlrpc-c's: not well-formed XML-RPC */
	VA_FAULT_INTERNAL = -500,
	VA_FAULT_REFUSED = 1,	   /* policy: text names side, rule and file */
	VA_FAULT_BUSY = 2,	   /* a limit of calls, jobs, streams ... at once */
	VA_FAULT_NOT_CONNECTED = 3, /* host: the guest's agent is not there */
	VA_FAULT_UNKNOWN_OUTCOME = 4,
	VA_FAULT_FOREIGN_AGENT = 5, /* Virtagent-Call names another agent */
	VA_FAULT_DUPLICATE = 6,	   /* that call id was seen already */
	VA_FAULT_TIMEOUT = 7,
	VA_FAULT_CANCELLED = 8,
	VA_FAULT_ERRNO = 1000,
};

#endif
