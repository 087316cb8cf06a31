"""Containers of the built images, locked down as a cluster may."""

from dataclasses import dataclass
from typing import Any

from docker import DockerClient
from docker.models.images import Image

# read-only, nothing to gain, and only memory to write to
LOCKED_DOWN = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


@dataclass(frozen=True)
class BuiltImage:
    """An image that an engine has."""

    engine: DockerClient
    image: Image

    def run(self, *command: str, **options: Any) -> str:
        """Run a command in a new container. -> its standard output; ContainerError if it fails."""
        options = LOCKED_DOWN | options
        output = self.engine.containers.run(self.image.id, list(command), remove=True, stderr=False, **options)
        return output.decode().strip()

    def python(self, code: str, **options: Any) -> str:
        """Run Python code in a new container. -> its standard output; ContainerError if it fails."""
        return self.run("python", "-c", code, **options)
