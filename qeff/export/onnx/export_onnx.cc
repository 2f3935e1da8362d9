// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/export_onnx.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "onnx/onnx.pb.h"
#include "qeff/export/onnx/onnx_data.h"
#include "qeff/export/onnx/onnx_functions.h"
#include "qeff/export/onnx/onnx_graph.h"
#include "qeff/export/onnx/onnx_linear.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// The version of the file format that has local functions and opset 17.
constexpr int64_t kIrVersion = 8;

// Whether a graph at `path` may refer to the files of `checkpoint`.
bool MayRefer(const Checkpoint& checkpoint, const std::string& path) {
  struct stat here, there;
  if (stat(ParentFolder(path).c_str(), &here) != 0 ||
      stat(checkpoint.folder().c_str(), &there) != 0 ||
      here.st_dev != there.st_dev || here.st_ino != there.st_ino) {
    return false;
  }
  for (const TensorInfo& info : checkpoint.tensors()) {
    const auto view = checkpoint.Get(info.name);
    if (!view.ok()) return false;
    const auto range = checkpoint.Find(view->bytes);
    struct stat file;
    if (!range.has_value() ||
        lstat(absl::StrCat(checkpoint.folder(), "/", range->file).c_str(),
              &file) != 0 ||
        !S_ISREG(file.st_mode)) {
      return false;
    }
  }
  return true;
}

void AddOpset(absl::string_view domain, int64_t version,
              onnx::ModelProto* model) {
  onnx::OperatorSetIdProto* const opset = model->add_opset_import();
  opset->set_domain(std::string(domain));
  opset->set_version(version);
}

// The functions that `graph` calls, and the domains that it uses.
void AddFunctions(const onnx::GraphProto& graph, onnx::ModelProto* model) {
  std::set<std::string> called, domains;
  for (const onnx::NodeProto& node : graph.node()) {
    if (node.domain().empty()) continue;
    called.insert(node.op_type());
    domains.insert(node.domain());
  }
  AddOpset("", kOnnxOpset, model);
  for (const std::string& domain : domains) AddOpset(domain, 1, model);
  for (const auto& make :
       {CtxScatterFunction, CtxScatterCBFunction, CtxGatherFunction,
        CtxGatherCBFunction, CustomRMSNormFunction}) {
    onnx::FunctionProto function = make();
    if (called.count(function.name()) != 0) {
      *model->add_functions() = std::move(function);
    }
  }
}

absl::Status ReadBack(const std::string& temporary, const std::string& path,
                      absl::string_view content) {
  QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(temporary));
  const absl::Span<const uint8_t> bytes = file->bytes();
  if (absl::string_view(reinterpret_cast<const char*>(bytes.data()),
                        bytes.size()) != content) {
    return absl::UnavailableError(
        absl::StrCat(path, ": what is read back is not what was written"));
  }
  return absl::OkStatus();
}

absl::Status RemoveOld(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return OutputError(path, "cannot replace", errno);
}

using Build = std::function<absl::Status(OnnxGraph*, OnnxData*,
                                         std::vector<std::string>*)>;

absl::StatusOr<OnnxReport> Export(const Transformer& model,
                                  const std::string& path, const Build& build) {
  OnnxReport report;
  report.in_place = MayRefer(model.checkpoint(), path);
  const std::string data_path = path + ".data";
  OnnxData data(&model.checkpoint(), data_path.substr(data_path.rfind('/') + 1),
                report.in_place);
  OnnxGraph graph(model.spec().family);
  QEFF_RETURN_IF_ERROR(build(&graph, &data, &report.dequantized));
  for (size_t i = 0; i < graph.blocks().size(); ++i) {
    const onnx::NodeProto& node = graph.proto().node(static_cast<int>(i));
    report.nodes.push_back({node.name(), graph.blocks()[i]});
    if (!node.domain().empty()) ++report.operators[node.op_type()];
  }

  onnx::ModelProto proto;
  proto.set_ir_version(kIrVersion);
  proto.set_producer_name("qeff");
  AddFunctions(graph.proto(), &proto);
  proto.mutable_graph()->Swap(graph.mutable_proto());
  std::string content;
  if (!proto.SerializeToString(&content)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": a graph above 2 GB"));
  }
  report.graph_bytes = content.size();
  report.data_bytes = data.size_bytes();

  QEFF_RETURN_IF_ERROR(CheckFreeSpace(ParentFolder(path),
                                      report.graph_bytes + report.data_bytes));
  QEFF_ASSIGN_OR_RETURN(const auto graph_file, AtomicFile::Create(path));
  QEFF_RETURN_IF_ERROR(graph_file->Write(0, AsBytes(content)));
  QEFF_RETURN_IF_ERROR(ReadBack(graph_file->temporary_path(), path, content));
  std::unique_ptr<AtomicFile> data_file;
  if (report.data_bytes != 0) {
    QEFF_ASSIGN_OR_RETURN(data_file, AtomicFile::Create(data_path));
    QEFF_RETURN_IF_ERROR(data.Write(data_file.get()));
    QEFF_RETURN_IF_ERROR(data.ReadBack(data_file->temporary_path(), data_path));
  }
  QEFF_RETURN_IF_ERROR(model.checkpoint().VerifyUnchanged());

  // What is slow or fails comes before anything old goes.
  QEFF_RETURN_IF_ERROR(graph_file->Sync());
  if (data_file != nullptr) {
    QEFF_RETURN_IF_ERROR(data_file->Sync());
    // A graph never stands beside the data of another one.
    QEFF_RETURN_IF_ERROR(RemoveOld(path));
    QEFF_RETURN_IF_ERROR(data_file->Commit());
  }
  QEFF_RETURN_IF_ERROR(graph_file->Commit());
  if (data_file == nullptr) QEFF_RETURN_IF_ERROR(RemoveOld(data_path));
  return report;
}

}  // namespace

absl::StatusOr<OnnxReport> ExportCausalLmOnnx(const Transformer& model,
                                              const CausalLmOptions& options,
                                              const std::string& path) {
  return Export(model, path,
                [&](OnnxGraph* graph, OnnxData* data,
                    std::vector<std::string>* dequantized) {
                  return BuildCausalLm(model, options, graph, data,
                                       dequantized);
                });
}

absl::StatusOr<OnnxReport> ExportHiddenStatesOnnx(const Transformer& model,
                                                  OnnxPooling pooling,
                                                  const std::string& path) {
  return Export(model, path,
                [&](OnnxGraph* graph, OnnxData* data,
                    std::vector<std::string>* dequantized) {
                  return BuildHiddenStates(model, pooling, graph, data,
                                           dequantized);
                });
}

}  // namespace qeff
