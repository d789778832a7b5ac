/*
 * qmp_machine.c - see qmp_machine.h
 *
 * Devices are found in QEMU's object tree: those with an id are children of
 * /machine/peripheral, those without of /machine/peripheral-anon, and a port has its
 * name and character device as properties.  The text of the human monitor ("info
 * qtree") would say the same, but promises no form.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/qmp_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"

#define TREE "/machine/peripheral"
#define TREE_ANON "/machine/peripheral-anon"
#define UUID_NONE "00000000-0000-0000-0000-000000000000"
#define TEXT_MAX 512u /* bytes of a name or path that is believed */

/* --- answers --------------------------------------------------------------------- */

/* Text that is worth keeping; NULL when it is not, or on ENOMEM. */
static char *keep(const struct va_value *v)
{
	const char *text;

	if (va_get_string(v, &text) < 0 || strlen(text) > TEXT_MAX ||
	    !str_is_clean_text(text, strlen(text), ""))
		return NULL;
	return strdup(text);
}

static int set(char **member, char *text)
{
	free(*member);
	*member = text;
	return text ? 0 : -ENOMEM;
}

static int take_name(struct qmp_machine *m, const struct va_value *answer)
{
	char *name = keep(va_member(answer, "name"));

	return set(&m->name, name ? name : strdup(""));
}

static int take_uuid(struct qmp_machine *m, const struct va_value *answer)
{
	char *uuid = keep(va_member(answer, "UUID"));

	if (uuid && (strlen(uuid) != 36 || strspn(uuid, "0123456789abcdefABCDEF-") != 36 ||
		     strcmp(uuid, UUID_NONE) == 0)) {
		free(uuid);
		uuid = NULL;
	}
	return set(&m->uuid, uuid ? uuid : strdup(""));
}

static int take_chardevs(struct qmp_machine *m, const struct va_value *answer)
{
	va_value_free(m->chardevs);
	m->chardevs = va_value_copy(answer);
	return m->chardevs ? 0 : -ENOMEM;
}

static int add_port(struct qmp_machine *m, const char *tree, const char *child)
{
	struct qmp_port *p = &m->ports[m->nports];

	if (m->nports == QMP_PORTS_MAX)
		return 0;
	p->path = str_printf("%s/%s", tree, child);
	m->nports += p->path != NULL;
	return p->path ? 0 : -ENOMEM;
}

static int add_slot(struct qmp_machine *m, const char *id)
{
	if (m->nslots == QMP_SLOTS_MAX)
		return 0;
	m->slots[m->nslots] = strdup(id);
	return m->slots[m->nslots++] ? 0 : -ENOMEM;
}

static int take_child(struct qmp_machine *m, const char *tree, const struct va_value *child)
{
	CLEANUP_FREE char *name = keep(va_member(child, "name"));
	CLEANUP_FREE char *type = keep(va_member(child, "type"));

	if (!name || !type || !str_starts(type, "child<"))
		return 0;
	if (strcmp(type, "child<virtserialport>") == 0)
		return add_port(m, tree, name);
	/* virtio-serial-pci, -ccw, -device and their variants. */
	m->bus |= str_starts(type, "child<virtio-serial-");
	if (strcmp(tree, TREE) == 0 && (strcmp(type, "child<pcie-root-port>") == 0 ||
					strcmp(type, "child<pci-bridge>") == 0))
		return add_slot(m, name);
	return 0;
}

static int take_children(struct qmp_machine *m, const char *tree,
			 const struct va_value *answer)
{
	int r = 0;

	for (size_t i = 0; i < va_count(answer) && r == 0; i++)
		r = take_child(m, tree, va_item(answer, i));
	return r;
}

static int take_named(struct qmp_machine *m, const struct va_value *answer)
{
	return take_children(m, TREE, answer);
}

static int take_unnamed(struct qmp_machine *m, const struct va_value *answer)
{
	return take_children(m, TREE_ANON, answer);
}

/* --- what it comes to ---------------------------------------------------------- */

char *qmp_channel_of(const char *filename)
{
	const char *at = filename, *end;

	if (str_starts(at, "disconnected:"))
		at += strlen("disconnected:");
	if (str_starts(at, "pty:"))
		return str_printf("pty-open:%s:-", at + 4);
	if (!str_starts(at, "unix:"))
		return NULL;
	at += 5;
	/* What follows the path are options; a client's socket has no ",server". */
	end = strstr(at, ",server");
	if (!end || at[0] != '/' || (size_t)(end - at) > TEXT_MAX)
		return NULL;
	return str_printf("unix-connect:%.*s:-", (int)(end - at), at);
}

/* The description of a character device, by its label or by a pattern of labels. */
static const char *find_chardev(const struct qmp_machine *m, const char *label,
				const char *pattern, const char **found)
{
	const char *name, *file;

	for (size_t i = 0; i < va_count(m->chardevs); i++) {
		const struct va_value *c = va_item(m->chardevs, i);

		if (va_get_string(va_member(c, "label"), &name) < 0 ||
		    va_get_string(va_member(c, "filename"), &file) < 0)
			continue;
		if (label ? strcmp(name, label) == 0 : str_glob(pattern, name)) {
			*found = name;
			return file;
		}
	}
	return NULL;
}

static const struct qmp_port *find_port(const struct qmp_machine *m)
{
	for (size_t i = 0; i < m->nports; i++)
		if (m->ports[i].name && strcmp(m->ports[i].name, VA_PORT_NAME) == 0)
			return &m->ports[i];
	return NULL;
}

static int conclude(struct qmp_machine *m)
{
	const struct qmp_port *p = find_port(m);
	const char *label = p && p->chardev ? p->chardev : "", *file;

	m->why[0] = '\0';
	if (p && set(&m->port, strdup(p->path)) < 0)
		return -ENOMEM;
	if (!p && !m->serial) {
		snprintf(m->why, sizeof(m->why), "it has no port named " VA_PORT_NAME);
		return 0;
	}
	file = find_chardev(m, p ? label : NULL, m->serial, &label);
	if (!file && p)
		snprintf(m->why, sizeof(m->why),
			 "its port " VA_PORT_NAME " has no character device");
	else if (!file)
		snprintf(m->why, sizeof(m->why), "it has no port named " VA_PORT_NAME
			 " and no character device that matches %s", m->serial);
	if (!file)
		return 0;
	if (set(&m->chardev, strdup(label)) < 0)
		return -ENOMEM;
	m->channel = qmp_channel_of(file);
	if (!m->channel)
		snprintf(m->why, sizeof(m->why), "its character device %s is \"%s\", no "
			 "path that QEMU listens at", label, file);
	return 0;
}

/* --- questions -------------------------------------------------------------------- */

static const struct {
	const char *command, *path;
	int (*take)(struct qmp_machine *m, const struct va_value *answer);
} questions[] = {
	{ "qmp_capabilities", NULL, NULL },
	{ "query-name", NULL, take_name },
	{ "query-uuid", NULL, take_uuid },
	{ "query-chardev", NULL, take_chardevs },
	{ "qom-list", TREE, take_named },
	{ "qom-list", TREE_ANON, take_unnamed },
};

#define NQUESTIONS (sizeof(questions) / sizeof(questions[0]))
#define PER_PORT 2 /* name and chardev */

static int ask(struct qmp_machine *m, struct qmp *q, const char *command,
	       struct va_value *arguments)
{
	int r = qmp_send(q, command, arguments, -1);

	m->asked += r == 0;
	return r;
}

static int ask_first(struct qmp_machine *m, struct qmp *q)
{
	int r = 0;

	for (size_t i = 0; i < NQUESTIONS && r == 0; i++) {
		struct va_value *path = questions[i].path ?
			qmp_arguments("path", questions[i].path, NULL) : NULL;

		r = questions[i].path && !path ? -ENOMEM :
						 ask(m, q, questions[i].command, path);
	}
	return r;
}

static int ask_ports(struct qmp_machine *m, struct qmp *q)
{
	static const char *const properties[PER_PORT] = { "name", "chardev" };
	int r = 0;

	for (size_t i = 0; i < m->nports * PER_PORT && r == 0; i++) {
		struct va_value *v = qmp_arguments("path", m->ports[i / PER_PORT].path,
						   "property", properties[i % PER_PORT],
						   NULL);

		r = v ? ask(m, q, "qom-get", v) : -ENOMEM;
	}
	return r;
}

static int take_answer(struct qmp_machine *m, const struct va_value *message)
{
	const struct va_value *answer = va_member(message, "return");
	unsigned i = m->answered++;
	struct qmp_port *p;

	if (i < NQUESTIONS)
		return questions[i].take ? questions[i].take(m, answer) : 0;
	i -= NQUESTIONS;
	p = &m->ports[i / PER_PORT];
	if (i % PER_PORT)
		p->chardev = keep(answer);
	else
		p->name = keep(answer);
	return 0;
}

static int take_message(struct qmp_machine *m, struct qmp *q,
			const struct va_value *message)
{
	enum qmp_kind kind = qmp_kind(message);
	int r = 0;

	if (!m->greeted) {
		m->greeted = kind == QMP_GREETING;
		if (!m->greeted)
			return -EBADMSG;
		return ask_first(m, q);
	}
	if (kind == QMP_EVENT)
		return 0;
	if (kind == QMP_ERROR && (m->answered >= NQUESTIONS || questions[m->answered].path)) {
		/* A port that went away since it was listed, or no such devices. */
		m->answered++;
	} else if (kind == QMP_ERROR) {
		snprintf(m->why, sizeof(m->why), "%s: %s", questions[m->answered].command,
			 qmp_error(message));
		return -EPROTO;
	} else if (kind != QMP_RETURN || m->answered >= m->asked) {
		return -EBADMSG;
	} else {
		r = take_answer(m, message);
	}
	if (r == 0 && m->answered == NQUESTIONS && m->asked == NQUESTIONS)
		r = ask_ports(m, q);
	return r;
}

void qmp_machine_begin(struct qmp_machine *m, const char *serial)
{
	*m = (struct qmp_machine){ .serial = serial };
}

static int fail(struct qmp_machine *m, int r)
{
	if (r == -EPROTO)
		return r;
	snprintf(m->why, sizeof(m->why), "%s",
		 r == -ECONNRESET ? "the monitor closed the connection" :
		 r == -EMSGSIZE || r == -EBADMSG ? "what answers there is no QMP monitor" :
						   strerror(-r));
	return r;
}

int qmp_machine_take(struct qmp_machine *m, struct qmp *q)
{
	int r = 0;

	while (r == 0) {
		CLEANUP_VALUE struct va_value *message = NULL;

		r = qmp_next(q, &message);
		if (r == 0)
			r = take_message(m, q, message);
		if (r == 0 && m->asked && m->answered == m->asked)
			return conclude(m);
	}
	return r == -EAGAIN ? r : fail(m, r);
}

void qmp_machine_done(struct qmp_machine *m)
{
	free(m->name);
	free(m->uuid);
	free(m->port);
	free(m->chardev);
	free(m->channel);
	for (size_t i = 0; i < m->nslots; i++)
		free(m->slots[i]);
	for (size_t i = 0; i < m->nports; i++) {
		free(m->ports[i].path);
		free(m->ports[i].name);
		free(m->ports[i].chardev);
	}
	va_value_free(m->chardevs);
	*m = (struct qmp_machine){ .name = NULL };
}
