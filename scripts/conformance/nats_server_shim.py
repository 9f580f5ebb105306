#!/usr/bin/env -S python3 -I -S
"""Answers to nats-server's command line and runs `msgbench broker` instead.

Test suites written for nats-server start it with its own flags and configuration files. This shim translates the
flags and keys that the client suites use and then becomes the broker (exec), so that process id and signals are the broker's own.
What it does not know it refuses aloud, so that a suite never runs against something other than it asked for.

    MSGBENCH=/path/to/msgbench nats_server_shim.py -a 127.0.0.1 -p 4222 [-m PORT] [-c FILE] [-l LOG] [-P PIDFILE]
                                                   [-user U -pass P | -auth TOKEN] [-tls -tlscert F -tlskey F ...]
    nats_server_shim.py --signal ldm=PID
"""
import json
import os
import re
import signal
import socket
import sys
import tempfile

TOKEN = re.compile(r'\s+|#[^\n]*|//[^\n]*|(?P<q>"[^"]*"|\'[^\']*\')|(?P<p>[{}\[\]:=,;])|(?P<w>[^\s{}\[\]:=,;#"\']+)')


class Unsupported(Exception):
    pass


def tokens(text):
    # A value such as `127.0.0.1:4222` holds a colon of its own.
    text = re.sub(r'(?m)((?:listen|host)\s*[:=]\s*)([^\s"{}]+:\d+)', r'\1"\2"', text)
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise Unsupported(f'cannot read the configuration at {text[at:at + 20]!r}')
        at = match.end()
        if match.group('q') is not None:
            yield ('value', match.group('q')[1:-1])
        elif match.group('p'):
            yield (match.group('p'), match.group('p'))
        elif match.group('w'):
            yield ('value', match.group('w'))


def value(stream):
    kind, text = stream.pop(0)
    if kind == '{':
        return block(stream, '}')
    if kind == '[':
        items = []
        while stream[0][0] != ']':
            if stream[0][0] in ',;':
                stream.pop(0)
            else:
                items.append(value(stream))
        stream.pop(0)
        return items
    return text


def block(stream, end):
    found = {}
    while stream and stream[0][0] != end:
        kind, key = stream.pop(0)
        if kind in ',;':
            continue
        while stream and stream[0][0] in ':=':
            stream.pop(0)
        found[key] = value(stream)
    if end and stream:
        stream.pop(0)
    return found


def size(text):
    match = re.fullmatch(r'(\d+)\s*([KMG]?)(i?B)?', text, re.I)
    if not match:
        raise Unsupported(f'size {text!r}')
    return f"{int(match.group(1)) * 1024 ** ' KMG'.index(match.group(2).upper() or ' ')}B"


def seconds(text):
    return text if re.search(r'[a-z]$', text) else f'{text}s'


ON = ('true', 'yes', 'on', True)

# Keys whose value becomes that of an option, as a duration, a size or as it is.
PLAIN = {
    'max_payload': ('--max-payload', size),
    'max_pending': ('--max-pending', size),
    'max_control_line': ('--max-control-line', size),
    'max_connections': ('--max-connections', str),
    'max_conn': ('--max-connections', str),
    'max_subscriptions': ('--max-subscriptions', str),
    'max_subs': ('--max-subscriptions', str),
    'ping_interval': ('--ping-interval', seconds),
    'ping_max': ('--ping-max', str),
    'write_deadline': ('--write-deadline', seconds),
    'lame_duck_duration': ('--lame-duck-spread', seconds),
    'lame_duck_grace_period': ('--lame-duck-grace', seconds),
    'server_name': ('--name', str),
}
# Where to listen is settled below; what is logged makes no difference to a client.
ELSEWHERE = ('listen', 'port', 'net', 'host', 'http', 'http_port', 'monitor_port', 'no_auth_user')
LOGGED = ('debug', 'trace', 'logtime', 'log_file', 'logfile', 'pid_file')


def note(words):
    print(f'shim: {words}', file=sys.stderr)


def subjects(said):
    """A table of the users' file from what nats-server calls a permission: a subject, a list, or lists to allow and to deny."""
    if not isinstance(said, dict):
        said = {'allow': said}
    table = {}
    for key, item in said.items():
        if key not in ('allow', 'deny'):
            raise Unsupported(f'permission {key}')
        table[key] = item if isinstance(item, list) else [item]
    return '{ ' + ', '.join(f'{key} = {json.dumps(value)}' for key, value in table.items()) + ' }'


def user_entry(user, mapped, defaults):
    said = dict(user)
    permissions = said.pop('permissions', said.pop('permission', defaults))
    name, password = said.pop('user', None), said.pop('password', said.pop('pass', None))
    nkey = said.pop('nkey', None)
    if said:
        raise Unsupported(f'user with {sorted(said)}')
    if (password or '').startswith('$2'):
        raise Unsupported('password as a bcrypt hash')
    lines = ['[[user]]']
    if nkey:
        lines.append(f'nkey = {json.dumps(nkey)}')
    elif mapped and password is None:
        lines.append(f'certificate = {json.dumps(name)}')
    else:
        lines += [f'name = {json.dumps(name)}', f'password = {json.dumps(password or "")}']
    for key, item in (permissions or {}).items():
        known = {'publish': 'publish', 'pub': 'publish', 'export': 'publish',
                 'subscribe': 'subscribe', 'sub': 'subscribe', 'import': 'subscribe'}
        if key not in known:
            raise Unsupported(f'permissions.{key}')
        lines.append(f'{known[key]} = {subjects(item)}')
    return lines


def users_file(lines):
    """A file of these lines that only the broker sees: what is in a pipe is gone once it is read."""
    reading, writing = os.pipe()
    text = ('\n'.join(lines) + '\n').encode()
    if len(text) > 60000:
        raise Unsupported('so many users')
    os.write(writing, text)
    os.close(writing)
    os.set_inheritable(reading, True)
    return f'/dev/fd/{reading}'


def tls_flags(tls):
    flags = []
    names = {'cert_file': '--tls-cert', 'key_file': '--tls-key'}
    verified = any(tls.get(key) in ON for key in ('verify', 'verify_and_map'))
    for key, item in tls.items():
        if key in names:
            flags += [names[key], item]
        elif key == 'ca_file':
            if verified:
                flags += ['--tls-ca', item]
        elif key == 'timeout':
            flags += ['--tls-timeout', seconds(item)]
        elif key == 'handshake_first':
            if item not in ON:
                raise Unsupported(f'tls.handshake_first {item}')
            flags += ['--tls-first']
        elif key not in ('verify', 'verify_and_map'):
            raise Unsupported(f'tls.{key}')
    return flags


def websocket_flags(said, tls):
    if set(said) - {'port', 'host', 'no_tls', 'tls'} or 'port' not in said:
        raise Unsupported(f'websocket with {sorted(said)}')
    own = {} if said.get('no_tls') in ON else said.get('tls', {})
    files = [[os.path.realpath(of[key]) for key in ('cert_file', 'key_file') if key in of] for of in (own, tls)]
    if files[0] != files[1]:
        raise Unsupported('websocket whose encryption is not that of the other clients')
    return ['--websocket', address(said.get('host', '0.0.0.0'), said['port'])]


def translate(config):
    """Everything of a configuration but where to listen."""
    flags, users = [], []
    mapped = config.get('tls', {}).get('verify_and_map') in ON
    for key, item in config.items():
        if key in ELSEWHERE or key in LOGGED or key == 'jetstream':
            continue
        elif key in PLAIN:
            option, written = PLAIN[key]
            flags += [option, written(item)]
        elif key == 'authorization':
            single = {}
            for inner, it in item.items():
                if inner in ('user', 'password', 'pass', 'permissions'):
                    single[inner] = it
                elif inner == 'token':
                    flags += ['--token', it]
                elif inner == 'timeout':
                    flags += ['--auth-timeout', seconds(it)]
                elif inner == 'users':
                    users += [user_entry(user, mapped, item.get('default_permissions')) for user in it]
                elif inner != 'default_permissions':
                    raise Unsupported(f'authorization.{inner}')
            if single:
                users.append(user_entry(single, mapped, None))
        elif key == 'accounts':
            note('accounts are not kept apart: their users publish to each other')
            for name, account in item.items():
                if set(account) - {'users', 'jetstream'}:
                    raise Unsupported(f'account {name} with {sorted(account)}')
                users += [user_entry(user, mapped, None) for user in account.get('users', [])]
        elif key == 'allow_non_tls':
            flags += ['--tls-optional'] if item in ON else []
        elif key == 'websocket':
            flags += websocket_flags(item, config.get('tls', {}))
        elif key == 'tls':
            flags += tls_flags(item)
        else:
            raise Unsupported(key)
    if users:
        anonymous = config.get('no_auth_user')
        head = [f'anonymous = {json.dumps(anonymous)}'] if anonymous else []
        flags += ['--users', users_file(head + [line for user in users for line in user])]
    return flags


# nats-server's flags without a value, and those with one.
SWITCHES = ('DV', 'D', 'V', 'T', 'js', 'jetstream', 'tls', 'tlsverify', 'debug', 'trace', 'v', 'version')
VALUES = {'addr': 'a', 'net': 'a', 'port': 'p', 'config': 'c', 'log': 'l', 'pid': 'P', 'store_dir': 'sd', 'http_port': 'm',
          'signal': 'sl', 'server_name': 'n', 'name': 'n', 'a': 'a', 'p': 'p', 'c': 'c', 'l': 'l', 'P': 'P', 'sd': 'sd', 'm': 'm',
          'sl': 'sl', 'n': 'n', 'user': 'user', 'pass': 'pass', 'auth': 'auth', 'tlscert': 'tlscert', 'tlskey': 'tlskey',
          'tlscacert': 'tlscacert', 'cluster_name': 'cluster_name', 'cluster': 'cluster', 'cluster_listen': 'cluster'}


def read_flags(args):
    """The flags as Go reads them: one dash or two, the value after `=` or as the next word."""
    found, args = {}, list(args)
    while args:
        word = args.pop(0)
        name, equals, given = word.lstrip('-').partition('=')
        if not word.startswith('-') or (name not in SWITCHES and name not in VALUES):
            raise Unsupported(f'flag {word}')
        if name in SWITCHES:
            found[name] = given if equals else True
        elif equals or args:
            found[VALUES[name]] = given if equals else args.pop(0)
        else:
            raise Unsupported(f'flag {word} without a value')
    return found


def address(host, port):
    """An address of the broker. nats-server takes every address of both families where it is told none."""
    port = '0' if port == '-1' else port
    if host in ('0.0.0.0', '::', '', 'localhost'):
        wide = '[::]' if socket.has_dualstack_ipv6() else '0.0.0.0'
        host = '127.0.0.1' if host == 'localhost' else wide
    elif ':' in host and not host.startswith('['):
        host = f'[{host}]'
    return f'{host}:{port}'


def listening(flags, config):
    """Where clients are taken and where the pages are: the command line says it before the configuration does."""
    host, _, port = config.get('listen', '').rpartition(':')
    host = flags.get('a') or host.strip('[]') or config.get('net') or config.get('host') or '0.0.0.0'
    port = flags.get('p') or port or config.get('port') or '4222'
    found = ['--listen', address(host, port)]
    page_host, _, page_port = config.get('http', '').rpartition(':')
    page_port = flags.get('m') or page_port or config.get('http_port') or config.get('monitor_port')
    if page_port:
        found += ['--monitor', address(page_host.strip('[]') or host, page_port)]
    return found


def jetstream_flags(flags, given):
    """Where streams are kept: in a folder of this name under the one that is told, as nats-server does."""
    if given is None or given == 'disabled' or not isinstance(given, dict) and given not in ON and given != 'enabled':
        return []
    table = given if isinstance(given, dict) else {}
    if set(table) - {'store_dir', 'max_mem', 'max_memory_store', 'max_file', 'max_file_store', 'domain'}:
        raise Unsupported(f'jetstream with {sorted(table)}')
    if 'domain' in table:
        note('a domain of JetStream is not known')
    folder = flags.get('sd') or table.get('store_dir') or tempfile.mkdtemp(prefix='jetstream-')
    return ['--jetstream', os.path.join(folder, 'jetstream')]


def main(args):
    flags = read_flags(args)
    if 'v' in flags or 'version' in flags:
        print('nats-server: v2.10.27 (msgbench broker)')
        return
    if 'sl' in flags:
        name, pid = flags['sl'].split('=')
        number = {'ldm': signal.SIGUSR2, 'stop': signal.SIGTERM, 'quit': signal.SIGTERM}[name]
        os.kill(int(pid), number)
        return
    config = {}
    if 'c' in flags:
        with open(flags['c']) as file:
            config = block(list(tokens(file.read())), None)
    if 'js' in flags or 'jetstream' in flags:
        config.setdefault('jetstream', 'true')
    if 'cluster' in flags or 'cluster_name' in flags:
        note('no cluster is formed: this server is alone in it')
    if 'tls' in flags or 'tlsverify' in flags:
        names = {'tlscert': 'cert_file', 'tlskey': 'key_file', 'tlscacert': 'ca_file'}
        config['tls'] = {key: flags[flag] for flag, key in names.items() if flag in flags}
        config['tls']['verify'] = 'tlsverify' in flags
    command = [os.environ.get('MSGBENCH', 'msgbench'), 'broker'] + listening(flags, config) + translate(config)
    command += jetstream_flags(flags, config.get('jetstream'))
    for flag, option in {'user': '--user', 'pass': '--pass', 'auth': '--token', 'n': '--name'}.items():
        if flag in flags:
            command += [option, flags[flag]]
    if 'P' in flags:
        with open(flags['P'], 'w') as file:
            file.write(f'{os.getpid()}\n')
    if 'l' in flags:
        out = os.open(flags['l'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
    os.execvp(command[0], command)


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
    except (Unsupported, OSError) as reason:
        print(f'nats_server_shim: not supported: {reason}', file=sys.stderr)
        sys.exit(2)
