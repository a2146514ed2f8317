import os
import shutil

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get, rmdir

required_conan_version = ">=2.0"


class UvcurlConan(ConanFile):
    name = "uvcurl"
    description = "libcurl transfers on a libuv loop the program already has"
    license = ("MIT", "Apache-2.0")
    url = "https://github.com/conan-io/conan-center-index"
    homepage = "https://github.com/uvcurl/uvcurl"
    topics = ("libcurl", "libuv", "http")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False]}
    default_options = {"shared": False, "fPIC": True}

    def configure(self):
        # The header is C's; cargo compiles position-independent code in any case.
        self.settings.rm_safe("compiler.cppstd")
        self.settings.rm_safe("compiler.libcxx")
        self.options.rm_safe("fPIC")
        if self.options.shared:
            # A static one would be copied into the shared library, beside the program's own.
            self.options["libuv"].shared = True
            self.options["libcurl"].shared = True

    def layout(self):
        cmake_layout(self, src_folder="src")

    def requirements(self):
        # uvcurl.h includes the headers of both, and a program calls both.
        self.requires("libuv/[>=1.44 <2]", transitive_headers=True, transitive_libs=True)
        self.requires("libcurl/[>=7.84 <9]", transitive_headers=True, transitive_libs=True)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration(f"{self.ref} is built for Linux only")

    def validate_build(self):
        if not shutil.which("cargo"):
            raise ConanInvalidConfiguration(f"{self.ref} needs cargo and rustc on the machine that builds it")

    def source(self):
        get(self, **self.conan_data["sources"][self.version], strip_root=True)

    def generate(self):
        deps = CMakeDeps(self)
        deps.generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["UVCURL_BINDINGS"] = "ready"
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE*", self.source_folder, os.path.join(self.package_folder, "licenses"))
        cmake = CMake(self)
        cmake.install()
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))
        rmdir(self, os.path.join(self.package_folder, "share"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "uvcurl")
        self.cpp_info.set_property("cmake_target_name", "uvcurl::uvcurl")
        self.cpp_info.set_property("cmake_target_aliases", ["uvcurl::shared" if self.options.shared else "uvcurl::static"])
        self.cpp_info.set_property("pkg_config_name", "uvcurl")
        self.cpp_info.libs = ["uvcurl"]
        if not self.options.shared:
            self.cpp_info.system_libs = ["rt", "pthread", "m", "dl"]
