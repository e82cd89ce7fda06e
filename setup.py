"""Builds the wheel only from the current sources; everything else is in pyproject.toml.

By default, setuptools adds to a wheel whatever an earlier build left in build/, such as modules removed since then.
"""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildFromSources(build_py):
    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": BuildFromSources})
