"""A bucket store for tests, `gs://…`: what an object store can do, and nothing more.

An object is put whole or read, listed and deleted. There is no directory, no rename, no append, no lock: whoever tries
gets an error. The same objects are served to fsspec, and with it to etils and all that builds on it, and over HTTP in
the way of Google's JSON interface, to TensorStore's own driver, which Orbax writes arrays with. They are files of one
directory, so that other processes, and those after a kill, see them too.
"""

import http.server
import importlib
import json
import os
import re
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

ROOT = 'MMJAX_TEST_BUCKETS'
LOCK, CREATING = threading.Lock(), threading.Lock()


def _root() -> Path:
    return Path(os.environ[ROOT])


def names(prefix: str = '') -> list[str]:
    return sorted(
        n for n in (unquote(path.name) for path in _root().iterdir()) if n.startswith(prefix) and '\0' not in n
    )


def get(name: str) -> bytes:
    try:
        return (_root() / quote(name, safe='')).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(name) from error


def put(name: str, content: bytes) -> int:
    """Returns the generation."""
    with LOCK:
        file = _root().with_name(f'{os.getpid()}-{threading.get_ident()}')
        file.write_bytes(content)
        now = time.time_ns()
        os.utime(file, ns=(now, now))
        os.replace(file, _root() / quote(name, safe=''))
        return now


def generation(name: str) -> int:
    """0: there is no such object."""
    try:
        return (_root() / quote(name, safe='')).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def delete(name: str) -> None:
    (_root() / quote(name, safe='')).unlink()


class Objects(AbstractFileSystem):
    """The store by fsspec. Where its settings allow it, it keeps listings until this process writes, and asks them for
    single objects too, as gcsfs does.
    """

    protocol = ('gcs', 'gs')
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return re.sub(r'^(gs|gcs)://', '', os.fspath(path)).rstrip('/')

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        if path in self.dircache:
            return self.dircache[path] if detail else [info['name'] for info in self.dircache[path]]
        below: dict[str, dict] = {}
        for name in names(f'{path}/'):
            first, *rest = name[len(path) + 1 :].split('/')
            full = f'{path}/{first}'
            below[full] = {'name': full, 'type': 'directory', 'size': 0} if rest else self._info(full)
        if not below:
            below = {path: self._info(path)}  # raises where there is no such object
        else:
            self.dircache[path] = list(below.values())
        return list(below.values()) if detail else list(below)

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        if self._parent(path) in self.dircache:
            for info in self.dircache[self._parent(path)]:
                if info['name'] == path:
                    return info
            raise FileNotFoundError(path)
        if generation(path):
            return self._info(path)
        if names(f'{path}/'):
            return {'name': path, 'type': 'directory', 'size': 0}
        raise FileNotFoundError(path)

    def invalidate_cache(self, path=None):
        self.dircache.clear()

    def _info(self, name):
        version = generation(name)
        if not version:
            raise FileNotFoundError(name)
        return {'name': name, 'type': 'file', 'size': len(get(name)), 'generation': str(version)}

    def mkdir(self, path, create_parents=True, **kwargs):
        pass  # there are no directories, and nobody is told

    makedirs = mkdir

    def rmdir(self, path):
        pass

    def rm_file(self, path):
        self.invalidate_cache()
        delete(self._strip_protocol(path))

    def _rm(self, path):
        self.invalidate_cache()
        delete(self._strip_protocol(path))

    def rm(self, path, recursive=False, maxdepth=None):
        path = self._strip_protocol(path)
        found = [path] if generation(path) else names(f'{path}/') if recursive else []
        if not found:
            raise FileNotFoundError(path)
        self.invalidate_cache()
        for name in found:
            delete(name)

    def _open(self, path, mode='rb', **kwargs):
        import io

        if mode == 'rb':
            return io.BytesIO(get(path))
        if mode != 'wb':
            raise NotImplementedError(f'an object store cannot open {path} for {mode}')

        invalidate = self.invalidate_cache

        class Upload(io.BytesIO):
            def __exit__(self, kind, *rest):
                if kind is None:
                    self.close()

            def close(self):
                if not self.closed:
                    put(path, self.getvalue())
                    invalidate()
                super().close()

        return Upload()

    def pipe_file(self, path, value, mode='overwrite', **kwargs):
        path = self._strip_protocol(path)
        with CREATING:
            if mode == 'create' and generation(path):
                raise FileExistsError(path)
            put(path, value)
            self.invalidate_cache()

    def cat_file(self, path, start=None, end=None, **kwargs):
        return get(self._strip_protocol(path))[start:end]

    def mv(self, *args, **kwargs):
        raise NotImplementedError('an object store has no rename')

    rename = move = mv_file = mv


class _Json(http.server.BaseHTTPRequestHandler):
    """What TensorStore's driver asks of Google's JSON interface."""

    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def do_GET(self):
        url, query = self._parsed()
        bucket, name = self._object(url)
        if name is None:
            return self._list(bucket, query)
        full = f'{bucket}/{name}'
        version = generation(full)
        if not version:
            return self._answer(404)
        if query.get('ifGenerationNotMatch') == str(version):
            return self._answer(304)
        if not self._matches(query, version):
            return self._answer(412)
        content = get(full)
        headers = {'x-goog-generation': str(version)}
        asked = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range', ''))
        if not asked:
            return self._answer(200, content, headers)
        start, end = asked.groups()
        first = int(start) if start else len(content) - int(end)
        last = int(end) if start and end else len(content) - 1
        if first >= len(content):
            return self._answer(416)
        part = content[first : last + 1]
        headers['Content-Range'] = f'bytes {first}-{first + len(part) - 1}/{len(content)}'
        return self._answer(206, part, headers)

    def do_POST(self):
        url, query = self._parsed()
        content = self.rfile.read(int(self.headers['Content-Length']))
        name = f'{url.path.split("/")[-2]}/{query["name"]}'
        if not self._matches(query, generation(name)):
            return self._answer(412)
        return self._answer(200, json.dumps(self._told(name, put(name, content), len(content))).encode())

    def do_DELETE(self):
        url, query = self._parsed()
        name = '/'.join(self._object(url))
        if not generation(name):
            return self._answer(404)
        if not self._matches(query, generation(name)):
            return self._answer(412)
        delete(name)
        return self._answer(204)

    def _list(self, bucket, query):
        found = [n for n in names(f'{bucket}/{query.get("prefix", "")}')]
        first, last = query.get('startOffset'), query.get('endOffset')
        items = [self._told(n, generation(n), len(get(n))) for n in found]
        items = [i for i in items if (not first or i['name'] >= first) and (not last or i['name'] < last)]
        return self._answer(200, json.dumps({'kind': 'storage#objects', 'items': items}).encode())

    def _told(self, name, version, size):
        bucket, _, rest = name.partition('/')
        return {'name': rest, 'bucket': bucket, 'generation': str(version), 'size': str(size)}

    def _parsed(self):
        url = urlsplit(self.path)
        return url, {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}

    def _object(self, url):
        found = re.fullmatch(r'.*/b/([^/]+)/o(?:/(.+))?', url.path)
        assert found, self.path
        return found[1], found[2] and unquote(found[2])

    def _matches(self, query, version):
        return query.get('ifGenerationMatch') in (None, str(version))

    def _answer(self, code, content=b'', headers=None):
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if code != 204:
            self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Bucket:
    hierarchical_namespace_enabled = False


def install() -> http.server.HTTPServer:
    """Makes `gs://` mean the store of the directory that the environment names; returns its server."""
    from orbax.checkpoint._src.path import gcs_utils

    fsspec.register_implementation('gcs', Objects, clobber=True)
    fsspec.register_implementation('gs', Objects, clobber=True)
    gcs_utils.get_bucket = lambda name: _Bucket()
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Json)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ['TENSORSTORE_GCS_HTTP_URL'] = f'http://127.0.0.1:{server.server_port}'
    os.environ['GOOGLE_AUTH_TOKEN_FOR_TESTING'] = 'none'
    return server


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """'gs://bucket', empty."""
    from etils.epath import backend
    from orbax.checkpoint._src.path import gcs_utils

    (tmp_path / 'objects').mkdir()
    monkeypatch.setenv(ROOT, str(tmp_path / 'objects'))
    monkeypatch.setattr(gcs_utils, 'get_bucket', gcs_utils.get_bucket)
    monkeypatch.setenv('TENSORSTORE_GCS_HTTP_URL', '')
    monkeypatch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', '')
    server = install()
    yield 'gs://bucket'
    server.shutdown()
    type(backend.fsspec_backend)._get_filesystem.cache_clear()
    registered = importlib.import_module('fsspec.registry')._registry  # the package has another thing of this name
    registered.pop('gcs')
    registered.pop('gs')
