"""A folder as a power cut would leave it, from the steps by which a program changed it (see witness.py).

Of a file what was there at its last fsync is sure to be left, and of a folder the names that it had at its own. Anything
later is left or not, each change for itself, and a write perhaps in part.
"""

import os

SECTOR = 512


class File:
    def __init__(self):
        self.content = bytearray()  # now
        self.synced = bytearray()
        self.later = []  # what was changed since: the steps

    def change(self, step):
        self.apply(self.content, step)
        self.later.append(step)

    @staticmethod
    def apply(content, step):
        if step.kind == "t":
            size = step.offset
        else:
            size = max(len(content), step.offset + len(step.bytes))
        content.extend(bytes(max(0, size - len(content))))
        if step.kind == "t":
            del content[size:]
        else:
            content[step.offset : step.offset + len(step.bytes)] = step.bytes

    def sync(self):
        for step in self.later:
            self.apply(self.synced, step)
        self.later.clear()

    def left(self, chance):
        content = bytearray(self.synced)
        for step in self.later if chance else ():
            if chance.random() < 0.5:
                if chance.random() < 0.2:
                    step = step._replace(bytes=step.bytes[: SECTOR * chance.randint(0, len(step.bytes) // SECTOR)])
                self.apply(content, step)
        return content


class Folder:
    def __init__(self):
        self.names = {}  # now: files and folders
        self.synced = {}
        self.later = []  # pairs of a name and what it was given to, None when it was taken away

    def name(self, name, node):
        self.later.append((name, node))
        self.apply(self.names, name, node)

    @staticmethod
    def apply(names, name, node):
        if node:
            names[name] = node
        else:
            names.pop(name, None)

    def sync(self):
        self.synced = dict(self.names)
        self.later.clear()

    def left(self, chance):
        names = dict(self.synced)
        for name, node in self.later if chance else ():
            if chance.random() < 0.5:
                self.apply(names, name, node)
        return names


class Disk:
    def __init__(self, folder):
        self.folder = folder
        self.root = Folder()
        self.nodes = {os.stat(folder).st_ino: self.root}

    def find(self, path):
        """The folder that the path is in, and its name there."""
        *parents, name = os.path.relpath(path, self.folder).split("/")
        folder = self.root
        for parent in parents:
            folder = folder.names[parent]
        return folder, name

    def take(self, step):
        if step.kind in "cd":
            node = self.nodes[step.inode] = File() if step.kind == "c" else Folder()
            if step.name:
                folder, name = self.find(step.name)
                folder.name(name, node)
        elif step.kind in "wt":
            self.nodes[step.inode].change(step)
        elif step.kind == "s":
            self.nodes[step.inode].sync()
        elif step.kind in "ru":
            folder, name = self.find(step.name)
            node = folder.names[name]
            folder.name(name, None)
            if step.kind == "r":
                folder, name = self.find(step.new_name)
                folder.name(name, node)

    def cut(self, target, chance=None):
        """Makes `target` what is left when the power fails now: without `chance` no more than what is sure."""
        write_out(target, self.root.left(chance), lambda node: node.left(chance))

    def copy(self, target):
        """Makes `target` what the folder is now."""
        write_out(target, self.root.names, lambda node: node.content if isinstance(node, File) else node.names)


def write_out(target, names, content_of):
    target.mkdir(exist_ok=True)
    for name, node in names.items():
        if isinstance(node, File):
            (target / name).write_bytes(content_of(node))
        else:
            write_out(target / name, content_of(node), content_of)
