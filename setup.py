"""Builds the wheel from today's sources alone; all the rest is in pyproject.toml.

setuptools adds to a wheel whatever an earlier build left in build/, such as modules that have since been removed.
"""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildFromSources(build_py):
    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": BuildFromSources})
