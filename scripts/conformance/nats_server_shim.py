#!/usr/bin/env python3
"""Answers to nats-server's command line and runs `msgbench broker` instead.

Test suites written for nats-server start it with its own flags and configuration files. This shim translates the
flags and keys that the client suites use and then becomes the broker (exec), so that process id and signals are the broker's own.
What it does not know it refuses aloud, so that a suite never runs against something other than it asked for.

    MSGBENCH=/path/to/msgbench nats_server_shim.py -a 127.0.0.1 -p 4222 [-c FILE] [-l LOG] [-P PIDFILE] [--store_dir DIR]
    nats_server_shim.py --signal ldm=PID
"""
import os
import re
import signal
import sys

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


def translate(config, listen):
    flags = []
    for key, item in config.items():
        if key in ('listen', 'port', 'net', 'host'):
            continue  # the command line says where
        elif key == 'jetstream':
            print('shim: jetstream is not served; its requests get no responders', file=sys.stderr)
        elif key == 'max_payload':
            flags += ['--max-payload', size(item)]
        elif key in ('max_connections', 'max_subscriptions'):
            flags += ['--' + key.replace('_', '-'), item]
        elif key == 'ping_interval':
            flags += ['--ping-interval', seconds(item)]
        elif key == 'ping_max':
            flags += ['--ping-max', item]
        elif key == 'server_name':
            flags += ['--name', item]
        elif key == 'authorization':
            for inner, it in item.items():
                if inner in ('user', 'token'):
                    flags += ['--' + inner, it]
                elif inner == 'password':
                    flags += ['--pass', it]
                elif inner == 'timeout':
                    flags += ['--auth-timeout', seconds(it)]
                elif inner == 'users':
                    for user in it:
                        if set(user) == {'nkey'}:
                            flags += ['--nkey', user['nkey']]
                        elif set(user) == {'user', 'password'}:
                            flags += ['--user', user['user'], '--pass', user['password']]
                        else:
                            raise Unsupported(f'user with {sorted(user)}')
                else:
                    raise Unsupported(f'authorization.{inner}')
        elif key == 'tls':
            names = {'cert_file': '--tls-cert', 'key_file': '--tls-key'}
            for inner, it in item.items():
                if inner in names:
                    flags += [names[inner], it]
                elif inner == 'ca_file':
                    if item.get('verify') == 'true':
                        flags += ['--tls-ca', it]
                elif inner == 'handshake_first':
                    if it != 'true':
                        raise Unsupported(f'tls.handshake_first {it}')
                    flags += ['--tls-first']
                elif inner not in ('verify', 'timeout'):
                    raise Unsupported(f'tls.{inner}')
        else:
            raise Unsupported(key)
    return ['broker', '--listen', listen] + flags


def main(args):
    host, port, config, log, pidfile = '127.0.0.1', '4222', {}, None, None
    args = list(args)
    extra = []
    while args:
        flag = args.pop(0)
        if flag in ('-a', '--addr', '--net'):
            host = args.pop(0)
        elif flag in ('-p', '--port'):
            port = args.pop(0)
        elif flag in ('-c', '--config'):
            with open(args.pop(0)) as file:
                config = block(list(tokens(file.read())), None)
        elif flag in ('-l', '--log'):
            log = args.pop(0)
        elif flag in ('-P', '--pid'):
            pidfile = args.pop(0)
        elif flag in ('-sd', '--store_dir', '-store_dir'):
            args.pop(0)
        elif flag in ('--user', '--pass'):
            extra += [flag, args.pop(0)]
        elif flag == '--auth':
            extra += ['--token', args.pop(0)]
        elif flag in ('-DV', '-D', '-V'):
            pass
        elif flag in ('-v', '--version'):
            print('nats-server: v2.10.27 (msgbench broker)')
            return
        elif flag in ('-sl', '--signal'):
            name, pid = args.pop(0).split('=')
            number = {'ldm': signal.SIGUSR2, 'stop': signal.SIGTERM, 'quit': signal.SIGTERM}[name]
            os.kill(int(pid), number)
            return
        else:
            raise Unsupported(f'flag {flag}')
    command = [os.environ.get('MSGBENCH', 'msgbench')] + translate(config, f'{host}:{port}') + extra
    if pidfile:
        with open(pidfile, 'w') as file:
            file.write(f'{os.getpid()}\n')
    if log:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
    os.execvp(command[0], command)


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
    except (Unsupported, OSError) as reason:
        print(f'nats_server_shim: not supported: {reason}', file=sys.stderr)
        sys.exit(2)
