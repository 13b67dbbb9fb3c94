# The emulator and the PTX that it runs. nvcc's front end compiles every kernel source to PTX with the
# options of the build, and the module contains this PTX as text. Test kernels for the PTX wrappers
# are added.

if(NOT VGG_CUDA_EMULATOR)
  target_sources(vgg_bindings PRIVATE csrc/bindings/no_emulator.cpp)
  return()
endif()
if(NOT VGG_WITH_CUDA)
  message(FATAL_ERROR "VGG_CUDA_EMULATOR: expected a build with CUDA, whose nvcc compiles the kernels")
endif()

string(TOUPPER "${CMAKE_BUILD_TYPE}" _type)
separate_arguments(_flags UNIX_COMMAND "${CMAKE_CUDA_FLAGS} ${CMAKE_CUDA_FLAGS_${_type}}")
if(CMAKE_CUDA_HOST_COMPILER)
  list(APPEND _flags "-ccbin=${CMAKE_CUDA_HOST_COMPILER}")
endif()

set(_entries "")
set(_symbols "")
set(_files "")
foreach(_item IN LISTS ptx_sources ITEMS
    "compute_80:csrc/ptx/test_kernels.cu"
    "compute_90a:csrc/ptx/test_kernels_sm90.cu")
  string(REPLACE ":" ";" _item "${_item}")
  list(GET _item 0 _front_end)
  list(GET _item 1 _source)
  string(REGEX REPLACE "^csrc/(kernels/)?(.*)\\.cu$" "\\2" _name "${_source}")
  string(MAKE_C_IDENTIFIER "ptx_${_name}" _symbol)
  set(_ptx "${PROJECT_BINARY_DIR}/${_symbol}.ptx")
  add_custom_command(
    OUTPUT "${_ptx}"
    COMMAND "${CMAKE_CUDA_COMPILER}" ${_flags} -std=c++17 -arch=${_front_end} -lineinfo
            "-I${PROJECT_SOURCE_DIR}/csrc" -ptx -MD -MF "${_ptx}.d" -o "${_ptx}"
            "${PROJECT_SOURCE_DIR}/${_source}"
    DEPENDS "${PROJECT_SOURCE_DIR}/${_source}"
    DEPFILE "${_ptx}.d"
    COMMENT "PTX of ${_source}"
    VERBATIM)
  list(APPEND _files "${_ptx}")
  string(APPEND _symbols "PTX(${_symbol}, \"${_ptx}\")\n")
  string(APPEND _entries "      {\"${_name}\", text(${_symbol}, ${_symbol}_end)},\n")
endforeach()
configure_file(cmake/ptx_texts.cpp.in "${PROJECT_BINARY_DIR}/ptx_texts.cpp" @ONLY)
set_source_files_properties("${PROJECT_BINARY_DIR}/ptx_texts.cpp" PROPERTIES
  OBJECT_DEPENDS "${_files}")

file(GLOB _emulator CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/csrc/emulator/*/*.cpp")
add_library(vgg_emulator OBJECT ${_emulator})
target_include_directories(vgg_emulator PRIVATE csrc)
# Always optimised, and for the building machine, since it interprets millions of instructions. The
# compiler must not fuse a kernel's separate multiplications and additions.
target_compile_options(vgg_emulator PRIVATE -O3 -ffp-contract=off)
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-march=native VGG_HAS_MARCH_NATIVE)
if(VGG_HAS_MARCH_NATIVE)
  target_compile_options(vgg_emulator PRIVATE -march=native)
endif()
find_package(Threads REQUIRED)
target_link_libraries(_C PRIVATE vgg_emulator Threads::Threads)
target_sources(vgg_bindings PRIVATE csrc/bindings/emulator.cpp)
target_sources(_C PRIVATE csrc/launch/emulator.cpp "${PROJECT_BINARY_DIR}/ptx_texts.cpp")
