# Decides whether to build with CUDA, and sets VGG_WITH_CUDA and CMAKE_CUDA_COMPILER.
#
# build_backend/vgg_toolkit.py makes the choice. The build backend passes it in CUDACXX and
# VGG_CUDA_TOOLKIT. If CMake was started by hand, this file runs the script. The cache keeps the
# choice, since a rebuild may run without these variables.

if(DEFINED ENV{VGG_CUDA_TOOLKIT})
  set(VGG_CUDA_TOOLKIT "$ENV{VGG_CUDA_TOOLKIT}" CACHE STRING "auto, system, pypi or none" FORCE)
endif()

set(VGG_WITH_CUDA ON)
if(VGG_CUDA_TOOLKIT STREQUAL "none")
  set(VGG_WITH_CUDA OFF)
elseif(NOT CMAKE_CUDA_COMPILER AND DEFINED ENV{CUDACXX})
  set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}" CACHE FILEPATH "nvcc" FORCE)
elseif(NOT CMAKE_CUDA_COMPILER)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/build_backend/vgg_toolkit.py"
    OUTPUT_VARIABLE _nvcc RESULT_VARIABLE _failed ERROR_VARIABLE _errors)
  if(_failed)
    message(FATAL_ERROR "${_errors}")
  elseif(_nvcc)
    set(CMAKE_CUDA_COMPILER "${_nvcc}" CACHE FILEPATH "nvcc" FORCE)
  else()
    set(VGG_WITH_CUDA OFF)
  endif()
endif()

if(VGG_WITH_CUDA)
  message(STATUS "nvcc: ${CMAKE_CUDA_COMPILER}")
  # Toolkit packages have their libraries in lib, but their nvcc.profile says lib64. The path is set
  # as a flag so that CMake's compiler check links, too. That check in CMake 3.25 accepts neither
  # quotes nor a leading blank.
  get_filename_component(_root "${CMAKE_CUDA_COMPILER}/../.." ABSOLUTE)
  if(EXISTS "${_root}/lib/libcudart_static.a" AND NOT EXISTS "${_root}/lib64")
    string(PREPEND CMAKE_CUDA_FLAGS_INIT "-L${_root}/lib ")
    string(STRIP "${CMAKE_CUDA_FLAGS_INIT}" CMAKE_CUDA_FLAGS_INIT)
  endif()
else()
  message(STATUS "Building without CUDA")
endif()
