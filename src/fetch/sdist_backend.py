"""A PEP 517 build backend that builds nothing: it tells pip the name and version that pip asked for."""

import os


class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        name, version = os.environ["LACUNA_SDIST_NAME"], os.environ["LACUNA_SDIST_VERSION"]
        folder = "%s-%s.dist-info" % (name.replace("-", "_"), version)
        os.mkdir(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
            file.write("Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
        return folder


# Packages without pyproject.toml name `setuptools.build_meta:__legacy__`, the others the module itself.
__legacy__ = Backend()
get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
